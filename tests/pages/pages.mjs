// Every page of a server, in Chromium: LIGAND_URL, LIGAND_USER, LIGAND_PASSWORD and
// LIGAND_REGISTRATION_TOKEN name it and let us in, CAPTCHA_PORT is where it expects the provider.

import { check, main, sleep } from "../clients/checks.mjs";
import { heading, inspect, newPage, startBrowser, submit, text, watch } from "./browser.mjs";
import { startProvider } from "./provider.mjs";

const { LIGAND_URL, LIGAND_USER, LIGAND_PASSWORD, LIGAND_REGISTRATION_TOKEN, CAPTCHA_PORT } = process.env;
const REGISTRATION = ["m.login.recaptcha", "m.login.registration_token", "m.login.terms"];

let registered = 0;

async function ask(path, body, token, method = "POST") {
    const headers = { "content-type": "application/json" };
    if (token) {
        headers.authorization = `Bearer ${token}`;
    }
    const answer = await fetch(`${LIGAND_URL}/_matrix/client/${path}`, { method, headers, body: JSON.stringify(body) });
    return { status: answer.status, body: await answer.json() };
}

const openRegistration = async () => (await ask("v3/register", {})).body.session;

const address = (stage, session) =>
    `${LIGAND_URL}/_matrix/client/v3/auth/${stage}/fallback/web?session=${session}`;

/** The client's poll at the end of all stages. */
async function completes(name, session) {
    registered += 1;
    const username = `${process.env.ENGINE}-${registered}`;
    const answer = await ask("v3/register", { username, password: LIGAND_PASSWORD, auth: { session } });
    check(`${name}: the client's poll registers the account`, answer.body.user_id === `@${username}:clients.test`,
        JSON.stringify(answer.body.errcode ?? answer.body.completed));
}

/** Fills in the page of a stage and sends it. */
async function complete(page, stage) {
    if (stage === "m.login.recaptcha") {
        const frame = await (await page.waitForSelector("iframe")).contentFrame();
        await (await frame.waitForSelector("#person")).click();
        await page.waitForFunction(() => document.querySelector("textarea").value);
    } else if (stage === "m.login.registration_token") {
        await page.type("#token", LIGAND_REGISTRATION_TOKEN);
    } else if (stage === "m.login.password") {
        await page.type("#password", LIGAND_PASSWORD);
    }
    await submit(page);
}

/** A registration in windows of a web view, which knows its own function before the page runs. */
async function withAHook(browser) {
    const session = await openRegistration();
    for (const stage of [...REGISTRATION, "m.login.dummy"]) {
        const page = await newPage(browser, { before: () => { window.onAuthDone = () => { window.called = (window.called ?? 0) + 1; }; } });
        await page.goto(address(stage, session), { waitUntil: "networkidle0" });
        check(`${stage}: nothing is told before it is done`, !(await page.evaluate(() => window.called)));
        await inspect(page, stage);
        await complete(page, stage);
        await page.waitForFunction(() => window.called);
        await sleep(300);
        check(`${stage}: onAuthDone is called once`, await page.evaluate(() => window.called) === 1);
        await inspect(page, `${stage} done`);
        await page.goto(address(stage, session));
        await page.waitForFunction(() => window.called);
        check(`${stage}: its page says it is done when opened again`, await heading(page) === "Done");
        await page.browserContext().close();
    }
    await completes("with onAuthDone", session);
}

/** A registration whose pages a client opens in windows and listens to. */
async function withAnOpener(browser, provider) {
    const session = await openRegistration();
    const client = await newPage(browser);
    for (const stage of [...REGISTRATION, "m.login.dummy"]) {
        await client.goto(`${provider}/client?url=${encodeURIComponent(address(stage, session))}`);
        const [popup] = await Promise.all([new Promise((resolve) => client.once("popup", resolve)), client.click("#open")]);
        watch(popup);
        await popup.waitForSelector("button[type=submit]");
        await complete(popup, stage);
        await client.waitForFunction(() => window.told.length > 0);
        const told = await client.evaluate(() => window.told);
        check(`${stage}: the opener receives authDone, once`,
            told.length === 1 && told[0].data === "authDone" && told[0].origin === new URL(LIGAND_URL).origin, JSON.stringify(told));
        check(`${stage}: no errors in the window`, popup.complaints.length === 0, popup.complaints.join("; "));
        await popup.close();
    }
    await completes("with an opener", session);
}

/** A web view that gives its function only once it sees the page loaded, and no one at all. */
async function lateOrNever(browser) {
    const session = await openRegistration();
    const page = await newPage(browser);
    await page.goto(address("m.login.recaptcha", session), { waitUntil: "networkidle0" });
    await complete(page, "m.login.recaptcha");
    check("alone: the page says that the window may be closed", (await text(page)).includes("You may close this window"));
    await page.evaluate(() => { window.onAuthDone = () => { window.called = true; }; });
    await page.waitForFunction(() => window.called);
    check("a function given late is called", true);
    check("alone: no errors", page.complaints.length === 0, page.complaints.join("; "));
}

async function withoutJavaScript(browser) {
    const session = await openRegistration();
    const page = await newPage(browser, { javascript: false });
    await page.goto(address("m.login.recaptcha", session));
    check("without JavaScript: the captcha says what it needs", (await text(page)).includes("needs JavaScript"));
    const body = new URLSearchParams({ "g-recaptcha-response": "right" });
    await fetch(address("m.login.recaptcha", session), { method: "POST", body });
    for (const stage of ["m.login.registration_token", "m.login.terms", "m.login.dummy"]) {
        await page.goto(address(stage, session));
        await complete(page, stage);
        check(`without JavaScript: ${stage} can be done`, (await text(page)).includes("You may close this window"));
    }
    check("without JavaScript: no errors", page.complaints.length === 0, page.complaints.join("; "));
    await completes("without JavaScript", session);
}

async function mistakes(browser) {
    const session = await openRegistration();
    const page = await newPage(browser);
    const show = async (name, url, says) => {
        await page.goto(url, { waitUntil: "networkidle0" });
        check(`${name}: says so`, (await text(page)).includes(says), await text(page));
        // The browser's own line about the status is no error of the page.
        page.complaints = page.complaints.filter((line) => !line.includes("Failed to load resource"));
        await inspect(page, name);
    };
    await show("an unknown stage", address("m.login.sso", session), "does not know this step");
    await show("an unknown session", address("m.login.terms", "nonsense"), "begin again");
    await show("a later stage", address("m.login.terms", session), "Another step comes first");
    await show("no session", address("m.login.terms", "").replace(/\?.*/, ""), "begin again");
    await page.goto(address("m.login.recaptcha", session), { waitUntil: "networkidle0" });
    await submit(page);
    check("a captcha not solved: the form comes back", (await text(page)).includes("Please solve the captcha"));
    await page.waitForSelector("iframe");
    await complete(page, "m.login.recaptcha");
    await page.goto(address("m.login.registration_token", session));
    await page.type("#token", "wrong");
    await submit(page);
    check("a wrong token: the form comes back", (await text(page)).includes("This registration token is not valid"));
    page.complaints.length = 0;
    await inspect(page, "a wrong token");
    await complete(page, "m.login.registration_token");
    await page.goto(address("m.login.terms", session));
    await complete(page, "m.login.terms");
    await show("an e-mail address", address("m.login.email.identity", session), "Your e-mail address");
}

/** A form on another site must not complete anything. */
async function fromAnotherSite(browser, provider) {
    const session = await openRegistration();
    const page = await newPage(browser);
    await page.goto(`${provider.replace("127.0.0.1", "localhost")}/client`);
    await page.evaluate((action) => {
        const form = document.createElement("form");
        Object.assign(form, { method: "post", action });
        form.innerHTML = '<input name="g-recaptcha-response" value="right">';
        document.body.append(form);
    }, address("m.login.recaptcha", session));
    await Promise.all([page.waitForNavigation(), page.evaluate(() => document.forms[0].submit())]);
    check("a form of another site is refused", (await text(page)).includes("This came from another site"), await text(page));
    const { body } = await ask("v3/register", { auth: { session } });
    check("a form of another site completes nothing", body.completed?.length === 0, JSON.stringify(body.completed));
}

async function password(browser) {
    const login = { type: "m.login.password", identifier: { type: "m.id.user", user: LIGAND_USER }, password: LIGAND_PASSWORD };
    const [mine, other] = [(await ask("v3/login", login)).body, (await ask("v3/login", login)).body];
    const path = `v3/devices/${other.device_id}`;
    const { session } = (await ask(path, {}, mine.access_token, "DELETE")).body;
    const page = await newPage(browser, { before: () => { window.onAuthDone = () => { window.called = true; }; } });
    await page.goto(address("m.login.password", session), { waitUntil: "networkidle0" });
    check("password: the page says whose and what for",
        (await text(page)).includes(`sign out devices of @${LIGAND_USER}:clients.test`), await text(page));
    await inspect(page, "m.login.password");
    await complete(page, "m.login.password");
    await page.waitForFunction(() => window.called);
    const deleted = await ask(path, { auth: { session } }, mine.access_token, "DELETE");
    check("password: the client's poll deletes the device", deleted.status === 200, JSON.stringify(deleted.body.errcode));
}

async function login(browser) {
    const pages = [
        ["matrixLogin.onLogin", `${LIGAND_URL}/_matrix/static/client/login/?device_id=TABLET&refresh_token=true`,
            () => { window.matrixLogin.onLogin = (body) => { window.got = body; }; }],
        ["onLogin", `${LIGAND_URL}/_matrix/client/api/v1/login/fallback`,
            () => { window.onLogin = (body) => { window.got = body; }; }],
    ];
    for (const [name, url, hook] of pages) {
        const page = await newPage(browser);
        await page.goto(url, { waitUntil: "networkidle0" });
        await inspect(page, `login with ${name}`);
        await page.type("#user", LIGAND_USER);
        await page.type("#password", "wrong");
        await page.click("button[type=submit]");
        await page.waitForFunction(() => document.getElementById("problem").textContent);
        check(`${name}: without a client nothing is sent`, (await text(page)).includes("No app is waiting"));
        await page.evaluate(hook);
        await page.click("button[type=submit]");
        await page.waitForFunction(() => document.getElementById("problem").textContent.includes("Invalid"));
        check(`${name}: a wrong password is told`, !(await page.evaluate(() => window.got)));
        page.complaints.length = 0;
        await page.$eval("#password", (field) => { field.value = ""; });
        await page.type("#password", LIGAND_PASSWORD);
        await page.click("button[type=submit]");
        const got = await (await page.waitForFunction(() => window.got)).jsonValue();
        check(`${name}: the client gets what /login answers`,
            Boolean(got.access_token) && got.user_id === `@${LIGAND_USER}:clients.test`);
        if (url.includes("TABLET")) {
            check(`${name}: what the address asks for goes along`, got.device_id === "TABLET" && Boolean(got.refresh_token));
        }
        await inspect(page, `login with ${name} done`);
    }
    const page = await newPage(browser, { javascript: false });
    await page.goto(`${LIGAND_URL}/_matrix/static/client/login/`);
    check("login without JavaScript: says what it needs", (await text(page)).includes("needs JavaScript"));
}

await main(async () => {
    const provider = await startProvider(CAPTCHA_PORT);
    const browser = await startBrowser();
    try {
        await withAHook(browser);
        await withAnOpener(browser, provider);
        await lateOrNever(browser);
        await withoutJavaScript(browser);
        await mistakes(browser);
        await fromAnotherSite(browser, provider);
        await password(browser);
        await login(browser);
    } finally {
        await browser.close();
    }
});

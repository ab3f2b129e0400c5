// Chromium, and what is held against every page: no errors, no breach of its own policy, nothing
// that shuts people out, nothing wider than a small phone.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

import { check } from "../clients/checks.mjs";

const require = createRequire(`${process.env.CLIENT_MODULES}/`);
const puppeteer = await import(pathToFileURL(require.resolve("puppeteer-core")));
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const pictures = process.env.PAGES_SCREENSHOTS;

export async function startBrowser() {
    return puppeteer.launch({
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
        // Root has no sandbox to go into; what is opened here is ours.
        args: process.getuid() === 0 ? ["--no-sandbox"] : [],
    });
}

/** A page of its own, with all it complains about in `page.complaints`. */
export async function newPage(browser, { javascript = true, before } = {}) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    watch(page);
    await page.setJavaScriptEnabled(javascript);
    if (before) {
        await page.evaluateOnNewDocument(before);
    }
    return page;
}

/** Keeps what a page complains about: errors, failed requests, breaches of its policy. */
export function watch(page) {
    page.complaints = [];
    const complain = (text) => page.complaints.push(text);
    page.on("console", (message) => {
        if (["error", "warn"].includes(message.type())) {
            complain(`${message.type()}: ${message.text()}`);
        }
    });
    page.on("pageerror", (error) => complain(`exception: ${error.message}`));
    page.on("requestfailed", (request) => complain(`failed: ${request.url()}`));
}

/** Records that nothing is wrong with the page as it stands. */
export async function inspect(page, name) {
    check(`${name}: no errors, no breach of the policy`, page.complaints.length === 0, page.complaints.join("; "));
    page.complaints.length = 0;
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run({ iframes: false }));
    const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    const found = grave.map(({ id, nodes }) => `${id}: ${nodes[0].html}`).join("; ");
    check(`${name}: axe finds nothing serious`, grave.length === 0, found);
    const wide = page.viewport();
    await page.setViewport({ width: 320, height: 600 });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    check(`${name}: fits into 320 pixels`, width <= 320, `${width} pixels`);
    if (pictures) {
        await takePictures(page, name);
    }
    await page.setViewport(wide);
}

async function takePictures(page, name) {
    mkdirSync(pictures, { recursive: true });
    const file = name.replaceAll(/[^a-z0-9]+/gi, "-");
    for (const scheme of ["light", "dark"]) {
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
        await page.screenshot({ path: `${pictures}/${file}-${scheme}.png` });
    }
    await page.emulateMediaFeatures([]);
}

/** Clicks, and waits for the page that the click leads to. */
export async function submit(page) {
    await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
}

export const heading = (page) => page.$eval("h1", (element) => element.textContent);
export const text = (page) => page.$eval("main", (element) => element.innerText);

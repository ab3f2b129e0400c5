// The life of an account in the newest matrix-js-sdk, with a mail server and an SMS hook: registration,
// signing in by every way there is, devices, addresses, passwords, guests, and the end.

import { check, main, matrixJsSdk, refused, rejection, silent } from "../checks.mjs";
import { Mailbox, linkIn, open, press, spoilt } from "../mailbox.mjs";
import { startSmsHook } from "../sms_hook.mjs";
import { clientOf, interactive, passwordAuth, tries } from "./interactive.mjs";

const { LIGAND_URL, MAIL_FOLDER, SMS_PORT, SMS_TOKEN } = process.env;
const { REGISTRATION_TOKEN } = process.env; // good for two uses
const NEXT_LINK = "https://app.example/confirmed";
const UNKNOWN = "nobody@home.example";

const sdk = await matrixJsSdk();
const bare = sdk.createClient({ baseUrl: LIGAND_URL, logger: silent });
const mailbox = new Mailbox(MAIL_FOLDER);
const phones = await startSmsHook(SMS_PORT, SMS_TOKEN);
const alice = { name: "alice", email: "alice@home.example", password: "orange lamp by the river" };

const signedIn = (session) => clientOf(sdk, LIGAND_URL, session);
const prove = (client, request, ...passwords) =>
    interactive(sdk, client, request, tries(client.getUserId(), ...passwords));
const byName = (user) => ({ type: "m.id.user", user });
const byEmail = (address) => ({ type: "m.id.thirdparty", medium: "email", address });
const signIn = async (identifier, password = alice.password) =>
    signedIn(await bare.loginRequest({ type: "m.login.password", identifier, password }));
const isSignedOut = (name, client) => refused(name, "401 M_UNKNOWN_TOKEN", client.whoami());
const isToldOfIt = async (name) =>
    check(name, await mailbox.next(alice.email, "Your password on mail.test was changed"));

await main(async () => {
    await registers();
    await signsInByEmail();
    await signsInByLoginToken();
    await hasAnOpenIdToken();
    await deletesDevices();
    await changesThePassword();
    await addsAnAddress();
    await addsANumber();
    await resetsAForgottenPassword();
    await isAGuestFirst();
    await deactivates();
});

/** At registration: tries a wrong token first, and a wrong link before the right one. */
function newcomer(who) {
    const tokens = ["not-a-token", REGISTRATION_TOKEN];
    let link;
    const mails = [
        async () => {
            link = linkIn(await mailbox.next(who.email, "Confirm your e-mail address"));
            check(`${who.name}: a link arrives to confirm the address`, link?.startsWith(LIGAND_URL));
        },
        async () => {
            const { status } = await open(spoilt(link));
            check(`${who.name}: a link with a wrong code does not work`, status === 400, `${status}`);
        },
        async () => {
            const { status, page } = await open(link);
            check(`${who.name}: the link works, and shows where the app wants one next`,
                status === 200 && page.includes(`>${new URL(NEXT_LINK).hostname}</a>`), `${status}`);
        },
    ];
    return {
        "m.login.registration_token": () => ({ type: "m.login.registration_token", token: tokens.shift() }),
        "m.login.email.identity": () => mails.shift()(),
    };
}

/** Registers `who` through all stages; `more` goes into the request. */
async function register(who, more = {}) {
    const wanted = { username: who.name, password: who.password, ...more };
    const request = (auth) => bare.registerRequest(auth ? { ...wanted, auth } : wanted);
    const email = { address: who.email, nextLink: NEXT_LINK };
    const { answer, told } = await interactive(sdk, bare, request, newcomer(who), email);
    check(`${who.name}: is told of the wrong token, and while the address is not confirmed`,
        told === ",M_FORBIDDEN,,M_UNAUTHORIZED,M_UNAUTHORIZED", told);
    who.id = answer.user_id;
    return signedIn(answer);
}

async function registers() {
    check("the name is free", await bare.isUsernameAvailable(alice.name));
    const { data } = await rejection(bare.registerRequest({}));
    check("token and e-mail are asked for", JSON.stringify(data.flows.map(({ stages }) => stages))
        === '[["m.login.registration_token","m.login.email.identity"]]', JSON.stringify(data.flows));
    await refused("a weak password is refused before any stage", "400 M_WEAK_PASSWORD",
        bare.registerRequest({ username: alice.name, password: "short" }));

    alice.client = await register(alice, { initial_device_display_name: "first" });
    const who = await alice.client.whoami();
    check("registered and signed in",
        who.user_id === "@alice:mail.test" && who.device_id === alice.client.getDeviceId());
    const { threepids } = await alice.client.getThreePids();
    check("the address is the account's", threepids.length === 1 && threepids[0].medium === "email"
        && threepids[0].address === alice.email && threepids[0].validated_at > 0 && threepids[0].added_at > 0);

    check("the name is taken", !(await bare.isUsernameAvailable(alice.name)));
    await refused("and nobody else gets it", "400 M_USER_IN_USE",
        bare.registerRequest({ username: alice.name, password: alice.password }));
    const { sid } = await bare.requestRegisterEmailToken(alice.email, bare.generateClientSecret(), 1);
    const message = await mailbox.next(alice.email, "You have an account on mail.test already");
    check("a second account with the address: the answer is the same, its owner is told, and no link",
        sid && message?.text.includes(alice.id) && !linkIn(message));
}

async function signsInByEmail() {
    await refused("by e-mail with a wrong password", "403 M_FORBIDDEN", signIn(byEmail(alice.email), "wrong"));
    await refused("by an unknown e-mail", "403 M_FORBIDDEN", signIn(byEmail(UNKNOWN)));
    alice.second = await signIn(byEmail(alice.email.toUpperCase()));
    check("signs in by e-mail, however it is spelled", alice.second.getUserId() === alice.id);
    const notice = await mailbox.next(alice.email, `New sign-in to ${alice.id}`);
    check("and is told of the new device", notice?.text.includes(alice.second.getDeviceId()));
}

async function signsInByLoginToken() {
    const { flows } = await bare.loginFlows();
    check("login tokens are offered", flows.some((flow) => flow.type === "m.login.token" && flow.get_login_token));
    const { answer, told } = await prove(alice.client, (auth) => alice.client.requestLoginToken(auth ?? undefined),
        "wrong", alice.password);
    check("a login token wants the password", told === ",M_FORBIDDEN", told);
    const use = () => bare.loginRequest({ type: "m.login.token", token: answer.login_token });
    alice.third = signedIn(await use());
    check("it signs in another device", (await alice.third.whoami()).user_id === alice.id
        && alice.third.getDeviceId() !== alice.client.getDeviceId());
    await refused("once", "403 M_FORBIDDEN", use());
    await refused("and is no access token", "401 M_UNKNOWN_TOKEN",
        signedIn({ user_id: alice.id, access_token: answer.login_token }).whoami());
}

async function hasAnOpenIdToken() {
    const given = await alice.client.getOpenIdToken();
    check("an OpenID token", given.token_type === "Bearer" && given.matrix_server_name === "mail.test"
        && given.expires_in > 0);
    const ask = async (token) => {
        const query = new URLSearchParams({ access_token: token });
        const answer = await fetch(`${LIGAND_URL}/_matrix/federation/v1/openid/userinfo?${query}`);
        return { status: answer.status, ...(await answer.json()) };
    };
    const { status, sub } = await ask(given.access_token);
    check("it tells a third party who this is", status === 200 && sub === alice.id, `${status}`);
    const wrong = await ask(alice.client.getAccessToken());
    check("an access token does not", wrong.status === 401 && wrong.errcode === "M_UNKNOWN_TOKEN", `${wrong.status}`);
    await refused("and it is no access token", "401 M_UNKNOWN_TOKEN",
        signedIn({ user_id: alice.id, access_token: given.access_token }).whoami());
}

async function deletesDevices() {
    const { client, second, third } = alice;
    const ids = async () => (await client.getDevices()).devices.map(({ device_id }) => device_id).sort().join();
    const all = [client, second, third].map((each) => each.getDeviceId()).sort().join();
    check("three devices", await ids() === all);
    const { data } = await rejection(client.deleteDevice(second.getDeviceId()));
    const auth = passwordAuth(alice.id, alice.password, { session: data.session });
    await refused("a session of authentication is for one operation", "403 M_FORBIDDEN",
        client.deleteMultipleDevices([third.getDeviceId()], auth));
    const one = await prove(client, (auth) => client.deleteDevice(second.getDeviceId(), auth), "wrong", alice.password);
    check("deleting a device wants the password", one.told === ",M_FORBIDDEN", one.told);
    await isSignedOut("a deleted device is signed out", second);
    await third.whoami();
    const several = (auth) => client.deleteMultipleDevices([third.getDeviceId()], auth);
    const more = await prove(client, several, alice.password);
    check("deleting several", more.told === "", more.told);
    await isSignedOut("they are signed out", third);
    check("one device is left", await ids() === client.getDeviceId());
}

async function changesThePassword() {
    const { client } = alice;
    const [old, fresh, last] = [alice.password, "seven quiet green bottles", "a violin in the orchard"];
    const other = await signIn(byName(alice.name));
    await refused("a weak new password", "400 M_WEAK_PASSWORD",
        client.setPassword(passwordAuth(alice.id, old), "short"));
    await refused("without the old password", "401 with flows", client.setPassword(undefined, fresh));
    await refused("with a wrong old password", "401 M_FORBIDDEN with flows",
        client.setPassword(passwordAuth(alice.id, "wrong"), fresh));
    await client.setPassword(passwordAuth(alice.id, old), fresh, false);
    check("another device may stay", (await other.whoami()).user_id === alice.id);
    await isToldOfIt("a changed password is told");

    const { told } = await prove(client, (auth) => client.setPassword(auth ?? undefined, last), old, fresh);
    check("the old one proves nothing any more", told === ",M_FORBIDDEN", told);
    await isToldOfIt("this one is told as well");
    await isSignedOut("by default every other device is signed out", other);
    check("but not this one", (await client.whoami()).user_id === alice.id);
    await refused("the old password does not sign in", "403 M_FORBIDDEN", signIn(byName(alice.name), fresh));
    check("the new one does", (await signIn(byName(alice.name), last)).getUserId() === alice.id);
    alice.password = last;
}

async function addsAnAddress() {
    const { client } = alice;
    const address = "alice@work.example";
    const client_secret = client.generateClientSecret();
    const ask = (attempt) => client.requestAdd3pidEmailToken(address, client_secret, attempt);
    const { sid } = await ask(1);
    const first = linkIn(await mailbox.next(address, "Add this e-mail address"));
    check("the same attempt again is the same validation", (await ask(1)).sid === sid);
    check("and so is a new attempt", (await ask(2)).sid === sid);
    const link = linkIn(await mailbox.next(address, "Add this e-mail address"));
    check("which sends one more mail", link && link !== first && (await mailbox.all(address)).length === 2);

    const add = (auth) => client.addThreePidOnly(auth ? { sid, client_secret, auth } : { sid, client_secret });
    const proved = () => add(passwordAuth(alice.id, alice.password));
    await refused("an address that is not confirmed is not added", "400 M_THREEPID_AUTH_FAILED", proved());
    check("only the newest link works", (await open(first)).status === 400);
    const { status, page } = await open(link);
    check("the link shows a page", status === 200 && page.includes("Your address is confirmed"), `${status}`);
    const { told } = await prove(client, add, "wrong", alice.password);
    check("adding an address wants the password", told === ",M_FORBIDDEN", told);
    check("two addresses", (await client.getThreePids()).threepids.length === 2);
    const notice = await mailbox.next(alice.email, `An e-mail address of ${alice.id} on mail.test was added`);
    check("the first address is told", notice !== undefined);
    check("it signs in", (await signIn(byEmail(address))).getUserId() === alice.id);

    const removed = await client.deleteThreePid("email", address);
    check("the address is removed", removed.id_server_unbind_result === "success"
        && (await client.getThreePids()).threepids.length === 1);
    await refused("then it does not sign in", "403 M_FORBIDDEN", signIn(byEmail(address)));
    await refused("and its proof is used up", "400 M_THREEPID_AUTH_FAILED", proved());
}

async function addsANumber() {
    const { client } = alice;
    const client_secret = client.generateClientSecret();
    await refused("a number that is none", "400 M_INVALID_PARAM",
        client.requestAdd3pidMsisdnToken("DE", "12", client_secret, 1));
    const { sid, submit_url } = await client.requestAdd3pidMsisdnToken("DE", "0170 1234567", client_secret, 1);
    const code = (await phones.next("491701234567"))?.match(/^\d{8}/)?.[0];
    check("a text message arrives with a code", code);
    const submit = (typed) => client.submitMsisdnTokenOtherUrl(submit_url, sid, client_secret, typed);
    await refused("a wrong code", "400 M_TOKEN_INCORRECT", submit(code === "00000000" ? "00000001" : "00000000"));
    const add = (auth) => client.addThreePidOnly(auth ? { sid, client_secret, auth } : { sid, client_secret });
    await refused("a number that is not confirmed is not added", "400 M_THREEPID_AUTH_FAILED",
        add(passwordAuth(alice.id, alice.password)));
    check("the right code", (await submit(code)).success === true);
    const { told } = await prove(client, add, "wrong", alice.password);
    check("adding a number wants the password", told === ",M_FORBIDDEN", told);
    const numbers = async () => (await client.getThreePids()).threepids.filter(({ medium }) => medium === "msisdn");
    check("the number is the account's", (await numbers())[0]?.address === "491701234567");
    const byPhone = { type: "m.id.phone", country: "DE", phone: "(0170) 123 45 67" };
    check("it signs in, however it is written", (await signIn(byPhone)).getUserId() === alice.id);
    await client.deleteThreePid("msisdn", "491701234567");
    check("the number is removed", (await numbers()).length === 0);
    await refused("then it does not sign in", "403 M_FORBIDDEN", signIn(byPhone));
}

async function resetsAForgottenPassword() {
    const password = "paper boats on the lake";
    const client_secret = bare.generateClientSecret();
    const unknown = await bare.requestPasswordEmailToken(UNKNOWN, client_secret, 1);
    const { sid } = await bare.requestPasswordEmailToken(alice.email, client_secret, 1);
    check("the same answer whether or not the address is known", Object.keys(unknown).join() === "sid" && sid);
    const reset = (creds = {}) => bare.setPassword(
        { type: "m.login.email.identity", threepid_creds: { sid, client_secret, ...creds } }, password);
    const waits = (name, creds) => refused(name, "401 M_UNAUTHORIZED with flows", reset(creds));

    const link = linkIn(await mailbox.next(alice.email, "Reset your password on mail.test"));
    check("a link arrives to reset the password", link?.startsWith(LIGAND_URL));
    await waits("no new password before the link");
    const { status, page } = await open(link);
    check("the link asks for a click", status === 200 && page.includes("<form"), `${status}`);
    await waits("no new password for an opened link");
    const wrong = spoilt(link);
    check("a click on a wrong link", (await press(wrong, (await open(wrong)).page)).status === 400);
    const pressed = await press(link, page);
    check("a click on the right one",
        pressed.status === 200 && pressed.page.includes("Your address is confirmed"), `${pressed.status}`);
    await waits("another client's secret", { client_secret: bare.generateClientSecret() });
    await waits("the validation of another address", { sid: unknown.sid });
    await refused("a weak new password", "400 M_WEAK_PASSWORD",
        bare.setPassword({ type: "m.login.email.identity", threepid_creds: { sid, client_secret } }, "short"));

    await reset();
    await waits("a proof works once");
    await isSignedOut("every device is signed out", alice.client);
    await isToldOfIt("a reset password is told");
    await refused("the forgotten password does not sign in", "403 M_FORBIDDEN", signIn(byEmail(alice.email)));
    alice.password = password;
    alice.client = await signIn(byEmail(alice.email));
    check("the new one does", (await alice.client.whoami()).user_id === alice.id);
    check("nobody gets a mail who has no account", (await mailbox.all(UNKNOWN)).length === 0);
}

async function isAGuestFirst() {
    const guest = await bare.registerGuest({ body: { initial_device_display_name: "a guest's" } });
    const client = signedIn(guest);
    check("a guest", (await client.whoami()).is_guest === true);
    await refused("has no addresses", "403 M_GUEST_ACCESS_FORBIDDEN", client.getThreePids());
    await refused("and no password", "403 M_GUEST_ACCESS_FORBIDDEN", client.setPassword(undefined, alice.password));
    const bob = { name: guest.user_id.slice(1).split(":")[0], email: "bob@home.example", password: alice.password };
    const upgraded = await register(bob, { guest_access_token: guest.access_token });
    const who = await upgraded.whoami();
    check("becomes a user of the same ID", who.user_id === guest.user_id && !who.is_guest);
    check("whose address it is", (await upgraded.getThreePids()).threepids[0]?.address === bob.email);
    await refused("the registration token is used up", "401 M_FORBIDDEN with flows",
        bare.registerRequest({ auth: { type: "m.login.registration_token", token: REGISTRATION_TOKEN } }));
}

async function deactivates() {
    const { client } = alice;
    const other = await signIn(byName(alice.name));
    const { answer, told } = await prove(client, (auth) => client.deactivateAccount(auth ?? undefined, true),
        "wrong", alice.password);
    check("deactivating wants the password", told === ",M_FORBIDDEN", told);
    check("deactivated", answer.id_server_unbind_result === "success");
    await isSignedOut("this device is signed out", client);
    await isSignedOut("and every other", other);
    await refused("nothing signs in again by name", "403 M_FORBIDDEN", signIn(byName(alice.name)));
    await refused("nor by e-mail", "403 M_FORBIDDEN", signIn(byEmail(alice.email)));
    check("the name stays taken", !(await bare.isUsernameAvailable(alice.name)));
    await bare.requestRegisterEmailToken(alice.email, bare.generateClientSecret(), 1);
    check("the address is free", linkIn(await mailbox.next(alice.email, "Confirm your e-mail address")));
}

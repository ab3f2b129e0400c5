// matrix-js-sdk 42.4.0, the last with automatic refresh of legacy sessions, driven by its own logic:
// an expired token, an answer lost on the way, a server in trouble.

import { check, main, matrixJsSdk, rejection, silent, sleep } from "../checks.mjs";
import { startProxy } from "../proxy.mjs";

const { LIGAND_URL, LIGAND_USER, LIGAND_PASSWORD } = process.env;
const LIFETIME_MS = 2000;

const sdk = await matrixJsSdk();
const { HttpApiEvent, TokenRefreshError } = sdk;

/** An app around the SDK: it keeps the tokens of one session and can be closed and opened again. */
class App {
    refreshed = 0;
    loggedOut = 0;

    constructor(baseUrl) {
        this.baseUrl = baseUrl;
        // Holds no tokens, so it cannot try to refresh in order to refresh.
        this.bare = sdk.createClient({ baseUrl, logger: silent });
    }

    async signIn() {
        this.session = await this.bare.loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: LIGAND_USER },
            password: LIGAND_PASSWORD,
            initial_device_display_name: "js-sdk test",
            refresh_token: true,
        });
        this.tokens = { accessToken: this.session.access_token, refreshToken: this.session.refresh_token };
        this.open();
        return this;
    }

    /** Starts the SDK from the stored tokens. It does not know when they expire. */
    open() {
        this.client = sdk.createClient({
            baseUrl: this.baseUrl,
            userId: this.session.user_id,
            deviceId: this.session.device_id,
            ...this.tokens,
            tokenRefreshFunction: (refreshToken) => this.refresh(refreshToken),
            logger: silent,
        });
        this.client.on(HttpApiEvent.SessionLoggedOut, () => { this.loggedOut += 1; });
    }

    async refresh(refreshToken) {
        const answer = await this.bare.refreshToken(refreshToken);
        this.refreshed += 1;
        this.tokens = { accessToken: answer.access_token, refreshToken: answer.refresh_token ?? refreshToken };
        return { ...this.tokens, expiry: new Date(Date.now() + answer.expires_in_ms) };
    }

    whoami() {
        return this.client.whoami();
    }
}

const expire = () => sleep(LIFETIME_MS + 300);

async function expiredToken(app) {
    const before = app.client.getAccessToken();
    await expire();
    const who = await app.whoami();
    check("an expired access token is refreshed after a 401",
        app.refreshed === 1 && who.user_id === app.session.user_id && app.client.getAccessToken() !== before,
        `${app.refreshed} refreshes`);
    await expire();
    await app.whoami();
    check("the next one is refreshed before the request, its expiry being known", app.refreshed === 2,
        `${app.refreshed} refreshes`);
    await expire();
    await Promise.all(Array.from({ length: 8 }, () => app.whoami()));
    check("eight requests at once share one refresh", app.refreshed === 3, `${app.refreshed} refreshes`);
}

/** While it knows the expiry, the SDK repeats a failed refresh within the same request. */
async function spoiltWhileRunning(app, proxy, how) {
    await expire();
    proxy.spoil(how);
    const error = await rejection(app.whoami());
    check(`${how}: the request succeeds by the SDK's own second try`, error === undefined, String(error));
    checkRetry(app, proxy, how);
}

/** After a reload it learns of the expiry by a 401, and leaves the second try to the app. */
async function spoiltAfterReload(app, proxy, how) {
    await expire();
    app.open();
    proxy.spoil(how);
    const error = await rejection(app.whoami());
    check(`${how}, after a reload: the SDK takes it for passing trouble`, error instanceof TokenRefreshError, String(error));
    const again = await rejection(app.whoami());
    check(`${how}, after a reload: the next request succeeds`, again === undefined, String(again));
    checkRetry(app, proxy, how);
}

function checkRetry(app, proxy, how) {
    const [first, second] = proxy.refreshes.slice(-2);
    check(`${how}: it was one retry with the same refresh token`,
        first.spoilt === how && second.spoilt === undefined && first.sent === second.sent && second.status === 200,
        `statuses ${first.status}, ${second.status}`);
    if (how === "cut") {
        check("cut: the retry got the very refresh token that was lost",
            first.status === 200 && first.answer.refresh_token === second.answer?.refresh_token, `status ${first.status}`);
    }
    check(`${how}: not logged out`, app.loggedOut === 0, `${app.loggedOut}`);
}

/** Shows that these tests would see a logout: this SDK takes any JSON error on refresh for one. */
async function control(proxy) {
    const app = await new App(proxy.url).signIn();
    await expire();
    proxy.spoil("503 json");
    await rejection(app.whoami());
    check("control: a JSON error on refresh does log this client out", app.loggedOut === 1, `${app.loggedOut}`);
}

async function signOut(app) {
    await expire();
    check("the session goes on after all that", await rejection(app.whoami()) === undefined && app.loggedOut === 0);
    await app.client.logout();
    const refused = await rejection(app.whoami());
    check("signs out: the access token is refused", refused?.errcode === "M_UNKNOWN_TOKEN", String(refused));
    const dead = await rejection(app.bare.refreshToken(app.tokens.refreshToken));
    check("signs out: the refresh token is refused with 401 M_UNKNOWN_TOKEN, and not softly",
        dead?.httpStatus === 401 && dead.errcode === "M_UNKNOWN_TOKEN" && !dead.data.soft_logout, String(dead));
}

await main(async () => {
    const proxy = await startProxy(LIGAND_URL);
    const app = await new App(proxy.url).signIn();
    check("signs in with a refresh token and a lifetime",
        Boolean(app.tokens.refreshToken) && app.session.expires_in_ms > 0 && app.session.expires_in_ms <= LIFETIME_MS,
        `expires_in_ms ${app.session.expires_in_ms}`);
    await expiredToken(app);
    for (const how of ["cut", "503 text"]) {
        await spoiltWhileRunning(app, proxy, how);
        await spoiltAfterReload(app, proxy, how);
    }
    await control(proxy);
    await signOut(app);
    proxy.close();
});

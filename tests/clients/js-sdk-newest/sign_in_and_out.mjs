// The newest matrix-js-sdk over the legacy API: signs in, asks whoami, signs out.
// It no longer refreshes legacy sessions, so it does not ask for a refresh token.

import { check, main, matrixJsSdk, rejection, silent, sleep } from "../checks.mjs";

const { LIGAND_URL, LIGAND_USER, LIGAND_PASSWORD } = process.env;
const LIFETIME_MS = 2000;

const sdk = await matrixJsSdk();

await main(async () => {
    const bare = sdk.createClient({ baseUrl: LIGAND_URL, logger: silent });
    const { flows } = await bare.loginFlows();
    check("the password flow is offered", flows.some(({ type }) => type === "m.login.password"));
    check("the versions are understood", (await bare.getVersions()).versions.length > 0);

    const session = await bare.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: LIGAND_USER },
        password: LIGAND_PASSWORD,
        initial_device_display_name: "newest js-sdk test",
    });
    check("signs in, with no refresh token unasked", session.access_token && session.device_id && !session.refresh_token);

    const client = sdk.createClient({
        baseUrl: LIGAND_URL,
        userId: session.user_id,
        deviceId: session.device_id,
        accessToken: session.access_token,
        logger: silent,
    });
    let loggedOut = 0;
    client.on(sdk.HttpApiEvent.SessionLoggedOut, () => { loggedOut += 1; });

    const who = await client.whoami();
    check("whoami names user and device", who.user_id === session.user_id && who.device_id === session.device_id);
    await sleep(LIFETIME_MS + 500);
    const later = await rejection(client.whoami());
    check("the token outlives access_token_lifetime", later === undefined, String(later));

    await client.logout();
    const refused = await rejection(client.whoami());
    check("signs out: the token is refused", refused?.errcode === "M_UNKNOWN_TOKEN", String(refused));
    check("and the client sees that it is logged out", loggedOut === 1, `${loggedOut}`);
});

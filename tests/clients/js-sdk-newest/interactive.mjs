// What an app does around the SDK's InteractiveAuth: it shows each stage to a person and passes on
// what they do there.

import { silent, sleep } from "../checks.mjs";

/**
 * Makes a request that asks for proofs; `request(auth)` sends it. `person[stage]()` does what the
 * stage asks for and gives the `auth` to send, or nothing where the app is to look again. Resolves
 * to the answer and to what the person was told each time: an errcode, or "" for a fresh stage.
 */
export async function interactive(sdk, client, request, person, email = undefined) {
    const told = [];
    const gaveUp = Promise.withResolvers();
    let sent;
    const auth = new sdk.InteractiveAuth({
        matrixClient: client,
        inputs: email ? { emailAddress: email.address } : {},
        doRequest: request,
        requestEmailToken: (address, secret, attempt) =>
            (sent = client.requestRegisterEmailToken(address, secret, attempt, email.nextLink)),
        stateUpdated: (stage, { errcode = "" }) => {
            told.push(errcode);
            act(stage).catch(gaveUp.reject);
        },
    });
    const act = async (stage) => {
        if (!person[stage]) throw new Error(`nobody knows what to do at the stage ${stage}`);
        const given = await person[stage]();
        if (given) return auth.submitAuthDict(given);
        await sent;
        await sleep(50); // poll() does nothing while the last request is still under way
        return auth.poll();
    };
    return { answer: await Promise.race([auth.attemptAuth(), gaveUp.promise]), told: told.join() };
}

/** A person at the password stage, who tries these one after the other. */
export function tries(user, ...passwords) {
    return { "m.login.password": () => passwordAuth(user, passwords.shift()) };
}

export function passwordAuth(user, password, more = {}) {
    return { type: "m.login.password", identifier: { type: "m.id.user", user }, password, ...more };
}

/** An app that is signed in with the answer of a sign-in or a registration. */
export function clientOf(sdk, baseUrl, { user_id: userId, device_id: deviceId, access_token: accessToken }) {
    return sdk.createClient({ baseUrl, userId, deviceId, accessToken, logger: silent });
}

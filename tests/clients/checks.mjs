// Counts named checks and prints one line for each; finds the client library to test.

import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The SDK needs both; node 18 does not show the first unasked, node 20 has no second.
globalThis.crypto ??= webcrypto;
Promise.withResolvers ??= () => {
    const deferred = {};
    deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }));
    return deferred;
};

let passed = 0;
let failed = 0;

/** Records one check. `detail` is shown when it does not hold; never pass a token in it. */
export function check(name, holds, detail = "") {
    if (holds) {
        passed += 1;
        console.log(`ok - ${name}`);
    } else {
        failed += 1;
        console.log(`FAILED - ${name}${detail ? `: ${detail}` : ""}`);
    }
    return Boolean(holds);
}

/** Runs the script's body, prints the closing line and ends the process. */
export async function main(body) {
    try {
        await body();
    } catch (error) {
        check("the script runs to its end", false, error?.stack ?? String(error));
    }
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed ? 1 : 0);
}

/** The error a promise rejects with, or undefined if it resolves. */
export async function rejection(promise) {
    try {
        await promise;
        return undefined;
    } catch (error) {
        return error;
    }
}

/** What a request was refused with, such as "401 M_FORBIDDEN with flows"; "answered" if it was not. */
export async function refusal(promise) {
    const error = await rejection(promise);
    if (!error) return "answered";
    if (!error.httpStatus) throw error;
    return [error.httpStatus, error.errcode, error.data?.flows && "with flows"].filter(Boolean).join(" ");
}

/** Records that a request is refused with exactly this. */
export async function refused(name, expected, promise) {
    const got = await refusal(promise);
    return check(name, got === expected, got);
}

/** matrix-js-sdk as installed under CLIENT_MODULES, which lies outside this tree. */
export async function matrixJsSdk() {
    const require = createRequire(`${process.env.CLIENT_MODULES}/`);
    const sdk = await import(pathToFileURL(require.resolve("matrix-js-sdk")));
    require("loglevel").getLogger("matrix").setLevel("silent", false); // of what takes no logger
    return sdk;
}

/** A logger with nothing to say: the SDK logs to the console otherwise. */
export const silent = {
    trace() {}, debug() {}, info() {}, warn() {}, error() {},
    getChild() { return silent; },
};

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

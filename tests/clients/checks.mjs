// Counts named checks and prints one line for each; finds the client library to test.

import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

globalThis.crypto ??= webcrypto; // the SDK needs it; node 18 does not show it unasked

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

/** matrix-js-sdk as installed under CLIENT_MODULES, which lies outside this tree. */
export async function matrixJsSdk() {
    const require = createRequire(`${process.env.CLIENT_MODULES}/`);
    return import(pathToFileURL(require.resolve("matrix-js-sdk")));
}

/** A logger with nothing to say: the SDK logs to the console otherwise. */
export const silent = {
    trace() {}, debug() {}, info() {}, warn() {}, error() {},
    getChild() { return silent; },
};

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

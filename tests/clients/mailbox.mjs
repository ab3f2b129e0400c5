// The messages that the mail server of a test took, from the files it leaves in MAIL_FOLDER, and
// what a browser does with the link in one.

import { readdir, readFile } from "node:fs/promises";

import { sleep } from "./checks.mjs";

const SECONDS_MAX = 20;

export class Mailbox {
    #folder;
    #read = new Set();

    constructor(folder) {
        this.#folder = folder;
    }

    /** All messages to `to`, read or not, oldest first. */
    async all(to) {
        const names = (await readdir(this.#folder)).filter((name) => name.endsWith(".json")).sort();
        const messages = await Promise.all(names.map((name) => this.#message(name)));
        return messages.filter((message) => message.to === to);
    }

    /** The oldest unread message to `to` with this subject, awaited; undefined if none comes. */
    async next(to, subject) {
        for (const end = Date.now() + SECONDS_MAX * 1000; Date.now() < end; await sleep(50)) {
            const unread = (await this.all(to)).filter(({ name }) => !this.#read.has(name));
            const found = unread.find((message) => message.subject.startsWith(subject));
            if (found) {
                this.#read.add(found.name);
                return found;
            }
        }
        return undefined;
    }

    async #message(name) {
        return { name, ...JSON.parse(await readFile(`${this.#folder}/${name}`, "utf8")) };
    }
}

/** The link in a message; undefined if there is none. */
export function linkIn(message) {
    return message?.text.match(/https?:\/\/\S+/)?.[0];
}

/** The same link with another code. */
export function spoilt(link) {
    const url = new URL(link);
    const code = url.searchParams.get("token");
    url.searchParams.set("token", (code[0] === "a" ? "b" : "a") + code.slice(1));
    return url.href;
}

/** Opens a link: status, where it sends the browser on to, and the page. */
export async function open(link) {
    return answer(await fetch(link, { redirect: "manual" }));
}

/** Presses the button of a page that was opened at `link`, as a browser without JavaScript does. */
export async function press(link, page) {
    const fields = [...page.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)];
    const body = new URLSearchParams(fields.map(([, name, value]) => [name, value]));
    return answer(await fetch(link, { method: "POST", body, redirect: "manual" }));
}

async function answer(response) {
    return { status: response.status, location: response.headers.get("location"), page: await response.text() };
}

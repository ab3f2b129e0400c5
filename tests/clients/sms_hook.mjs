// A service that sends text messages, as docs/operating/email.md describes it to operators.

import http from "node:http";
import { text } from "node:stream/consumers";

import { sleep } from "./checks.mjs";

const SECONDS_MAX = 20;

/** Starts one on a loopback port. `next(to)` is the text that was sent to a number, awaited, and forgets it. */
export async function startSmsHook(port, token) {
    const sent = [];
    const server = http.createServer(async (request, response) => {
        const may = request.method === "POST" && request.headers.authorization === `Bearer ${token}`;
        const body = await text(request);
        if (may) sent.push(JSON.parse(body));
        response.writeHead(may ? 204 : 403).end();
    });
    await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
    return {
        async next(to) {
            for (const end = Date.now() + SECONDS_MAX * 1000; Date.now() < end; await sleep(50)) {
                const at = sent.findIndex((message) => message.to === to);
                if (at >= 0) return sent.splice(at, 1)[0].text;
            }
            return undefined;
        },
    };
}

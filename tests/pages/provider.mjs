// Plays the captcha's provider, for the browser and for the server, and a client's own page that
// opens the server's pages.

import { createServer } from "node:http";

/** What the real ones' script does: finds its place, draws a frame, fills a field of the form. */
const SCRIPT = `
"use strict";
for (const place of document.querySelectorAll(".g-recaptcha")) {
    const frame = document.createElement("iframe");
    frame.title = "Captcha";
    frame.width = "100%";
    frame.height = "70";
    frame.src = new URL("/widget?k=" + place.dataset.sitekey, document.currentScript.src);
    const answer = document.createElement("textarea");
    answer.name = "g-recaptcha-response";
    answer.hidden = true;
    place.append(frame, answer);
    window.addEventListener("message", (event) => {
        if (event.source === frame.contentWindow) {
            answer.value = event.data;
        }
    });
}
`;

const WIDGET = `<!doctype html><html lang="en"><title>Captcha</title>
<main><h1>Captcha</h1><button id="person">I am a person</button></main>
<script>
document.getElementById("person").addEventListener("click", () => {
    parent.postMessage("right-" + Math.random(), "*");
});
</script>`;

/** The page of a client: it opens an address in a window and keeps what that window tells it. */
const OPENER = `<!doctype html><html lang="en"><title>A client</title>
<button id="open">Open</button>
<script>
window.told = [];
window.addEventListener("message", (event) => window.told.push({ data: event.data, origin: event.origin }));
document.getElementById("open").addEventListener("click", () => {
    window.open(new URLSearchParams(location.search).get("url"), "_blank", "width=400,height=600");
});
</script>`;

async function verify(request) {
    let text = "";
    for await (const chunk of request) {
        text += chunk;
    }
    const form = new URLSearchParams(text);
    if (form.get("secret") !== "the secret") {
        return { success: false, "error-codes": ["invalid-input-secret"] };
    }
    return form.get("response")?.startsWith("right")
        ? { success: true, hostname: "127.0.0.1" }
        : { success: false, "error-codes": ["invalid-input-response"] };
}

/** Listens on this port; gives its origin. */
export async function startProvider(port) {
    const server = createServer(async (request, response) => {
        const path = request.url.split("?")[0];
        const pages = { "/widget": WIDGET, "/client": OPENER };
        if (path === "/api.js") {
            response.setHeader("content-type", "text/javascript").end(SCRIPT);
        } else if (path === "/siteverify") {
            response.setHeader("content-type", "application/json").end(JSON.stringify(await verify(request)));
        } else if (path in pages) {
            response.setHeader("content-type", "text/html; charset=utf-8").end(pages[path]);
        } else {
            response.writeHead(404).end();
        }
    });
    await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
    return `http://127.0.0.1:${port}`;
}

// Signs in and hands the answer to the client that opened the page: Client-Server API, "Login
// fallback". Nothing is sent where nobody would take the answer: a session would be left behind.
"use strict";

// Web views set `window.matrixLogin.onLogin` and expect the object to be there.
window.matrixLogin = window.matrixLogin || {};

const form = document.getElementById("login");
const problem = document.getElementById("problem");

function say(text) {
    problem.textContent = text;
    problem.hidden = !text;
}

function hook() {
    return window.matrixLogin.onLogin || window.onLogin;
}

/** What the client asks for in the address: everything that is no credential. */
function asked() {
    const body = {};
    for (const [name, value] of new URLSearchParams(window.location.search)) {
        if (name === "device_id" || name === "initial_device_display_name") {
            body[name] = value;
        } else if (name === "refresh_token") {
            body[name] = value === "true";
        }
    }
    return body;
}

async function signIn() {
    const [user, password] = ["user", "password"].map((id) => document.getElementById(id).value);
    const answer = await fetch(form.dataset.login, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
            ...asked(),
            type: "m.login.password",
            identifier: { type: "m.id.user", user },
            password,
        }),
    });
    const body = await answer.json();
    if (!answer.ok) {
        throw new Error(body.error || "The server did not answer as expected.");
    }
    return body;
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    if (!hook()) {
        say("No app is waiting for this sign-in. Please open this page from your app.");
        return;
    }
    const button = form.querySelector("button");
    button.disabled = true;
    try {
        const body = await signIn();
        form.hidden = true;
        document.getElementById("done").hidden = false;
        hook()(body);
    } catch (error) {
        say(error.message);
    } finally {
        button.disabled = false;
    }
});

// Tells the client that opened the page that the stage is done: Client-Server API, "Fallback".
"use strict";

let told = false;

function tell() {
    if (told) {
        return;
    }
    told = true;
    if (window.onAuthDone) {
        window.onAuthDone();
    } else if (window.opener && window.opener.postMessage) {
        window.opener.postMessage("authDone", "*");
    } else {
        told = false;
    }
}

tell();
// Web views put their function in once they see the page loaded.
for (const ms of [50, 200, 500, 1000, 2000, 5000]) {
    setTimeout(tell, ms);
}

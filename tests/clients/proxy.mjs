// A small HTTP proxy that can spoil the next answer of POST …/refresh, and remembers each exchange.

import http from "node:http";

/**
 * Starts a proxy on a free loopback port in front of `target` (an http: URL).
 *
 * `spoil(how)` arms it for one POST …/refresh:
 * - "cut": the server gets the request and answers; the client gets a closed connection;
 * - "503 text": the server sees nothing; the client gets a 503 with a plain text body;
 * - "503 json": the same with a JSON body.
 *
 * `refreshes` lists every POST …/refresh: { sent, status, answer, spoilt }, `answer` being what the
 * server said, whether or not the client heard it.
 */
export async function startProxy(target) {
    const upstream = new URL(target);
    const refreshes = [];
    let armed;

    const server = http.createServer(async (request, response) => {
        const body = await read(request);
        const isRefresh = request.method === "POST" && request.url.endsWith("/refresh");
        if (!isRefresh) {
            return relay(response, await forward(upstream, request, body));
        }
        const spoilt = armed;
        armed = undefined;
        const entry = { sent: JSON.parse(body).refresh_token, spoilt };
        refreshes.push(entry);
        if (spoilt?.startsWith("503")) {
            entry.status = 503;
            return unavailable(response, spoilt);
        }
        const answer = await forward(upstream, request, body);
        entry.status = answer.status;
        entry.answer = JSON.parse(answer.body);
        if (spoilt === "cut") {
            return request.socket.destroy();
        }
        relay(response, answer);
    });

    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        refreshes,
        spoil(how) { armed = how; },
        close() { server.close(); server.closeAllConnections(); },
    };
}

async function read(stream) {
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    return Buffer.concat(chunks);
}

/** Sends the request on and reads the whole answer, so that the server has done its work. */
function forward(upstream, request, body) {
    return new Promise((resolve, reject) => {
        const { hostname, port } = upstream;
        const { method, url: path, headers } = request;
        const onward = http.request({ hostname, port, method, path, headers, agent: false });
        onward.on("response", async (answer) =>
            resolve({ status: answer.statusCode, headers: answer.headers, body: await read(answer) }));
        onward.on("error", reject);
        onward.end(body);
    });
}

function relay(response, { status, headers, body }) {
    const { connection, "transfer-encoding": _, ...rest } = headers;
    response.writeHead(status, { ...rest, "content-length": body.length });
    response.end(body);
}

function unavailable(response, how) {
    const json = how === "503 json";
    response.writeHead(503, { "content-type": json ? "application/json" : "text/plain", "retry-after": "1" });
    response.end(json ? '{"errcode":"M_UNKNOWN","error":"unavailable"}' : "unavailable\n");
}

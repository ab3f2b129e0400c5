"""What Schemathesis does not know by itself: how to sign in, and what must never succeed."""

import json
import os
import urllib.parse
import urllib.request

import schemathesis


def access_token():
    """The token of a new session."""
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": os.environ["LIGAND_USER"]},
            "password": os.environ["LIGAND_PASSWORD"]}
    request = urllib.request.Request(f"{os.environ['LIGAND_URL']}/_matrix/client/v3/login",
                                     json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["access_token"]


if "LIGAND_URL" in os.environ:

    @schemathesis.auth(refresh_interval=None)
    class SignedIn:
        """One session for all, but a new one each time for and after what ends sessions."""

        token = None

        def get(self, case, context):
            ends_sessions = "logout" in case.path
            if ends_sessions or SignedIn.token is None:
                token = access_token()
                SignedIn.token = None if ends_sessions else token
                return token
            return SignedIn.token

        def set(self, case, data, context):
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.check
def no_success_without_credentials(context, response, case):
    """Where a token is needed, nothing succeeds without what at least looks like one."""
    needed = case.operation.definition.raw.get("security", [])
    request = response.request
    if not needed or {} in needed or request.method == "OPTIONS":
        return
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.url).query)
    given = [*query.get("access_token", []), request.headers.get("Authorization", "").partition(" ")[2]]
    # Registration is open, and Schemathesis tries the tokens that it got elsewhere.
    if response.status_code < 300 and not any(token.startswith("lga_") for token in given):
        raise AssertionError(f"succeeded without credentials: {response.status_code}")

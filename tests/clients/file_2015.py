"""A client written from the 2015 registration-and-login file alone: `/login` and `/tokenrefresh`.

Its whole state is three lines: the user, the access token, the refresh token. As the file says, it
learns of an expired access token by an auth error, refreshes, and repeats the request. `whoami`
stands for "any other request"; the file itself names none.
"""

import http.client
import json
import os
import sys
import time
import urllib.parse

import checks
from checks import check

SERVER = urllib.parse.urlsplit(os.environ["LIGAND_URL"])
USERNAME = os.environ["LIGAND_USER"]
PASSWORD = os.environ["LIGAND_PASSWORD"]
EXCHANGES = 50
# These first exchanges do not wait for the expiry, so that the older access token is refused
# because it was exchanged, not because its two seconds were over.
EARLY_EXCHANGES = 5
LIFETIME_S = 2.0


def request(method, path, body=None):
    """One plain HTTP exchange: status and parsed JSON body."""
    connection = http.client.HTTPConnection(SERVER.hostname, SERVER.port, timeout=30)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def login(password):
    body = {"username": USERNAME, "password": password}
    return request("POST", "/_matrix/client/api/v1/login", body)


def token_refresh(refresh_token):
    body = {"refresh_token": refresh_token}
    return request("POST", "/_matrix/client/api/v1/tokenrefresh", body)


def ask(access_token):
    """Any authorised request, the token in the query as the file's `securityDefinitions` has it."""
    query = urllib.parse.urlencode({"access_token": access_token})
    return request("GET", f"/_matrix/client/r0/account/whoami?{query}")


def is_refused(answer, status, errcode):
    return answer[0] == status and answer[1].get("errcode") == errcode


def refusal(answer):
    return f"status {answer[0]}, errcode {answer[1].get('errcode')}"


def run():
    wrong = login(PASSWORD + "x")
    check("a wrong password is 403 M_FORBIDDEN", is_refused(wrong, 403, "M_FORBIDDEN"), refusal(wrong))

    status, answer = login(PASSWORD)
    if not check("login answers 200", status == 200, refusal((status, answer))):
        return
    user_id, access_token, refresh_token = (
        answer.get("user_id"), answer.get("access_token"), answer.get("refresh_token"))
    check("login names the user", user_id == f"@{USERNAME}:{answer.get('home_server')}", str(user_id))
    if not check("login comes with both tokens, unasked", bool(access_token and refresh_token)):
        return

    exchanged, expired, older_dead, used_refused = 0, 0, 0, 0
    trouble = ""
    for exchange in range(EXCHANGES):
        alive = ask(access_token)
        if alive != (200, alive[1]) or alive[1].get("user_id") != user_id:
            trouble = f"exchange {exchange}: the new access token is refused: {refusal(alive)}"
            break
        if exchange >= EARLY_EXCHANGES:
            time.sleep(LIFETIME_S)
            last = checks.wait_until(lambda: (a := ask(access_token))[0] != 200 and a, 3)
            if not last or last[0] not in (401, 403):
                trouble = f"exchange {exchange}: the access token does not expire"
                break
            expired += 1
        status, answer = token_refresh(refresh_token)
        if status != 200 or not answer.get("access_token") or not answer.get("refresh_token"):
            trouble = f"exchange {exchange}: {refusal((status, answer))}"
            break
        exchanged += 1
        used_refused += is_refused(token_refresh(refresh_token), 403, "M_FORBIDDEN")
        older_dead += ask(access_token)[0] == 401
        access_token, refresh_token = answer["access_token"], answer["refresh_token"]

    check(f"{EXCHANGES} exchanges at /tokenrefresh", exchanged == EXCHANGES, trouble)
    check(f"{EXCHANGES - EARLY_EXCHANGES} of them after the access token expired",
          expired == EXCHANGES - EARLY_EXCHANGES, f"{expired}")
    check("every used refresh token is refused with 403 M_FORBIDDEN",
          used_refused == EXCHANGES, f"{used_refused} of {EXCHANGES}")
    check("every older access token is dead", older_dead == EXCHANGES, f"{older_dead} of {EXCHANGES}")
    check("the session lives on", ask(access_token)[0] == 200)
    invented = token_refresh("a1b2c3")
    check("an invented refresh token is 403 M_FORBIDDEN",
          is_refused(invented, 403, "M_FORBIDDEN"), refusal(invented))


if __name__ == "__main__":
    try:
        run()
    except Exception:
        checks.crashed()
    sys.exit(checks.summary())

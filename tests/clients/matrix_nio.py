"""matrix-nio, a client that knows no refresh tokens: signs in, asks whoami, signs out.

Its access token must outlive `access_token_lifetime`, because it has no way to renew it.
"""

import asyncio
import os
import sys

import nio

import checks
from checks import check

URL = os.environ["LIGAND_URL"]
USERNAME = os.environ["LIGAND_USER"]
PASSWORD = os.environ["LIGAND_PASSWORD"]
LIFETIME_S = 2.0


async def run():
    client = nio.AsyncClient(URL, USERNAME)
    restored = nio.AsyncClient(URL, USERNAME)
    try:
        flows = await client.login_info()
        check("the password flow is offered",
              isinstance(flows, nio.LoginInfoResponse) and "m.login.password" in flows.flows, str(flows))

        wrong = await client.login(PASSWORD + "x")
        check("a wrong password is M_FORBIDDEN",
              isinstance(wrong, nio.LoginError) and wrong.status_code == "M_FORBIDDEN", str(wrong))

        signed_in = await client.login(PASSWORD, device_name="nio test")
        if not check("signs in", isinstance(signed_in, nio.LoginResponse), type(signed_in).__name__):
            return
        who = await client.whoami()
        check("whoami names user and device",
              isinstance(who, nio.WhoamiResponse) and who.user_id == signed_in.user_id
              and who.device_id == signed_in.device_id and not who.is_guest, type(who).__name__)

        await asyncio.sleep(LIFETIME_S + 0.5)
        who = await client.whoami()
        check("a token that cannot be refreshed outlives access_token_lifetime",
              isinstance(who, nio.WhoamiResponse), str(who))

        devices = await client.devices()
        check("the device list shows this device with its name",
              isinstance(devices, nio.DevicesResponse)
              and [d.display_name for d in devices.devices if d.id == signed_in.device_id] == ["nio test"],
              type(devices).__name__)

        left = await client.logout()
        check("signs out", isinstance(left, nio.LogoutResponse), str(left))
        restored.restore_login(signed_in.user_id, signed_in.device_id, signed_in.access_token)
        refused = await restored.whoami()
        check("the token is refused after that, and not softly",
              isinstance(refused, nio.WhoamiError) and refused.status_code == "M_UNKNOWN_TOKEN"
              and not refused.soft_logout, type(refused).__name__)
    finally:
        await client.close()
        await restored.close()


if __name__ == "__main__":
    try:
        asyncio.run(run())
    except Exception:
        checks.crashed()
    sys.exit(checks.summary())

"""The official Python SDK, as PyPI has it, against a node: log-ins, resources, errors, a Service, refresh, log-out.

Started by `node/tests/it/sdk.rs`, an administrator's authentication token in ROOT_TOKEN. Prints a line for each step and exits with
1 at the first difference.

The SDK speaks to `octelium-api.<domain>`, `<domain>` and the Services' names, all on port 443. With `--address` the event loop below
says where that is, as `curl --connect-to` does: names, TLS and requests stay those of port 443, and the test needs neither root nor
/etc/hosts. Without it the names lead where the machine says, to a node that was not started by a test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import betterproto
import octelium.api.main.core.v1 as core
import octelium.api.main.meta.v1 as meta
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from octelium.api.main.auth.v1 import AuthenticateWithAuthenticationTokenRequest
from octelium.api.main.auth.v1 import MainServiceStub as AuthStub
from octelium.api.main.user.v1 import GetStatusRequest
from octelium.sdk import (
    AuthConfig,
    AuthenticationError,
    AuthTokenConfig,
    OAuth2ClientCredentialsConfig,
    OcteliumClient,
    OcteliumClientConfig,
)

COUNT = 24
PER_PAGE = 7


@dataclass(frozen=True)
class Node:
    """Where the node is and what it trusts."""

    domain: str
    address: tuple[str, int] | None
    ca: str
    root_token: str
    upstream: str


class Loop(asyncio.SelectorEventLoop):
    """Finds the node's names, and port 443 of them, where the node listens."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        is_ours = name == self._node.domain or name.endswith("." + self._node.domain)
        if self._node.address and port == 443 and is_ours:
            host, port = self._node.address
        return await super().getaddrinfo(host, port, **hints)


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


async def expect_status(what: str, wanted: Status, call: Awaitable[Any]) -> None:
    try:
        answer = await call
    except GRPCError as error:
        expect(f"{what} ({error.message})", error.status, wanted)
    else:
        raise AssertionError(f"{what}: {answer!r} instead of {wanted}")


def step(text: str) -> None:
    print(f"ok: {text}", flush=True)


def config(node: Node, auth: AuthConfig) -> OcteliumClientConfig:
    return OcteliumClientConfig(
        domain=node.domain,
        auth=auth,
        authenticate_on_creation=True,
        ssl_context_factory=lambda: ssl.create_default_context(cafile=node.ca),
    )


@contextlib.asynccontextmanager
async def client(node: Node, **auth: Any) -> AsyncIterator[OcteliumClient]:
    async with await OcteliumClient.create(config(node, AuthConfig(**auth))) as opened:
        yield opened


def by_token(node: Node, token: str, *scopes: str) -> Any:
    return client(node, type="auth_token", auth_token=AuthTokenConfig(token=token, scopes=scopes))


def named(name: str) -> meta.Metadata:
    return meta.Metadata(name=name)


def empty(message: Any) -> Any:
    """A message that is sent although nothing is in it: a new one is left out by the SDK's encoder."""
    return message().parse(b"")


def rules(effect: core.PolicySpecRuleEffect, expression: str) -> core.PolicySpec:
    return core.PolicySpec(
        rules=[core.PolicySpecRule(condition=core.Condition(match=expression), effect=effect)]
    )


def workload(name: str, *policies: str) -> core.User:
    spec = core.UserSpec(type=core.UserSpecType.WORKLOAD)
    if policies:
        spec.authorization = core.UserSpecAuthorization(policies=list(policies))
    return core.User(metadata=named(name), spec=spec)


def service(name: str, url: str) -> core.Service:
    return core.Service(
        metadata=named(name),
        spec=core.ServiceSpec(
            mode=core.ServiceSpecMode.HTTP,
            is_public=True,
            config=core.ServiceSpecConfig(upstream=core.ServiceSpecConfigUpstream(url=url)),
            authorization=core.ServiceSpecAuthorization(policies=["allow-all"]),
        ),
    )


def credential(name: str, kind: core.CredentialSpecType, user: str) -> core.Credential:
    return core.Credential(metadata=named(name), spec=core.CredentialSpec(type=kind, user=user))


@dataclass(frozen=True)
class Kind:
    """A kind of resource: one to create, a change of its spec that a later get shows, and its bad twin."""

    name: str
    make: Callable[[str], Any]
    change: Callable[[Any], None]
    changed: Callable[[Any], bool]
    spoil: Callable[[Any], None]
    """Makes a spec that is refused."""
    full_name: Callable[[str], str] = lambda name: name

    def call(self, client: OcteliumClient, verb: str) -> Callable[[Any], Awaitable[Any]]:
        return getattr(client.core_v1, f"{verb}_{self.name}")

    def get(self, client: OcteliumClient, name: str) -> Awaitable[Any]:
        return self.call(client, "get")(meta.GetOptions(name=name))

    def delete(self, client: OcteliumClient, name: str) -> Awaitable[Any]:
        return self.call(client, "delete")(meta.DeleteOptions(name=name))

    def page(self, client: OcteliumClient, page: int) -> Awaitable[Any]:
        options = getattr(core, "List" + "".join(word.title() for word in self.name.split("_")) + "Options")
        order = meta.CommonListOptionsOrderBy(type=meta.CommonListOptionsOrderByType.NAME)
        common = meta.CommonListOptions(page=page, items_per_page=PER_PAGE, order_by=order)
        return self.call(client, "list")(options(common=common))


def attach(spec_authorization: Any, policies: list[str]) -> Callable[[Any], None]:
    return lambda resource: setattr(resource.spec, "authorization", spec_authorization(policies=policies))


def attached(resource: Any) -> bool:
    return resource.spec.authorization.policies == ["allow-all"]


def kinds(node: Node) -> list[Kind]:
    allow = core.PolicySpecRuleEffect.ALLOW
    deny = core.PolicySpecRuleEffect.DENY

    def set_policy(expression: str) -> Callable[[core.Policy], None]:
        return lambda policy: setattr(policy, "spec", rules(deny, expression))

    def set_url(url: str) -> Callable[[core.Service], None]:
        return lambda service: setattr(service.spec.config.upstream, "url", url)

    def set_spec(field: str, value: Any) -> Callable[[Any], None]:
        return lambda resource: setattr(resource.spec, field, value)

    return [
        Kind(
            "namespace",
            lambda name: core.Namespace(metadata=named(name), spec=empty(core.NamespaceSpec)),
            attach(core.NamespaceSpecAuthorization, ["allow-all"]),
            attached,
            attach(core.NamespaceSpecAuthorization, ["no-such-policy"]),
        ),
        Kind(
            "group",
            lambda name: core.Group(metadata=named(name), spec=empty(core.GroupSpec)),
            attach(core.GroupSpecAuthorization, ["allow-all"]),
            attached,
            attach(core.GroupSpecAuthorization, ["no-such-policy"]),
        ),
        Kind(
            "user",
            workload,
            set_spec("is_disabled", True),
            lambda user: user.spec.is_disabled,
            set_spec("groups", ["no-such-group"]),
        ),
        Kind(
            "service",
            lambda name: service(name, node.upstream),
            set_url("http://elsewhere.example:8080"),
            lambda service: service.spec.config.upstream.url == "http://elsewhere.example:8080",
            set_url("not a url"),
            lambda name: f"{name}.default",
        ),
        Kind(
            "policy",
            lambda name: core.Policy(metadata=named(name), spec=rules(allow, "1 == 1")),
            set_policy("2 > 1"),
            lambda policy: policy.spec.to_dict() == rules(deny, "2 > 1").to_dict(),
            set_policy("1 =="),
        ),
        Kind(
            "secret",
            lambda name: core.Secret(metadata=named(name), spec=empty(core.SecretSpec), data=core.SecretData(value="first")),
            lambda secret: setattr(secret, "data", core.SecretData(value="second")),
            # Nobody reads it back: that it changed is seen by its version.
            lambda secret: betterproto.which_one_of(secret.data, "type") == ("", None),
            lambda secret: setattr(secret, "data", core.SecretData()),
        ),
        Kind(
            "credential",
            lambda name: credential(name, core.CredentialSpecType.AUTH_TOKEN, "root"),
            set_spec("max_authentications", 3),
            lambda credential: credential.spec.max_authentications == 3,
            set_spec("user", "no-such-user"),
        ),
    ]


async def all_pages(kind: Kind, root: OcteliumClient) -> list[Any]:
    items: list[Any] = []
    page = 0
    while True:
        answer = await kind.page(root, page)
        about = answer.list_response_meta
        expect(f"{kind.name}: number of the page", about.page, page)
        expect(f"{kind.name}: size of a page", about.items_per_page, PER_PAGE)
        items += answer.items
        if not about.has_more:
            break
        expect(f"{kind.name}: items of page {page}", len(answer.items), PER_PAGE)
        page += 1
    expect(f"{kind.name}: total", about.total_count, len(items))
    expect(f"{kind.name}: no object twice", len({item.metadata.uid for item in items}), len(items))
    names = [item.metadata.name for item in items]
    expect(f"{kind.name}: order", names, sorted(names))
    await expect_status(f"{kind.name}: behind the last page", Status.NOT_FOUND, kind.page(root, page + 1))
    return items


async def resources(kind: Kind, root: OcteliumClient, nobody: OcteliumClient) -> None:
    """One kind: create, get, list, update and delete; and what each refuses."""
    before = await all_pages(kind, root)
    names = [f"sdk-{number:02}" for number in range(COUNT)]
    for name in names:
        made = await kind.call(root, "create")(kind.make(name))
        expect(f"{kind.name}: its name", made.metadata.name, kind.full_name(name))
        expect(f"{kind.name}: a uid", len(made.metadata.uid), 36)
    after = await all_pages(kind, root)
    wanted = sorted([item.metadata.name for item in before] + [kind.full_name(name) for name in names])
    expect(f"{kind.name}: all that there is", [item.metadata.name for item in after], wanted)
    step(f"{kind.name}: {COUNT} created, {len(after)} listed on pages of {PER_PAGE}")

    stored = await kind.get(root, names[0])
    by_uid = await kind.call(root, "get")(meta.GetOptions(uid=stored.metadata.uid))
    expect(f"{kind.name}: by uid as by name", by_uid.to_dict(), stored.to_dict())
    kind.change(stored)
    stored.metadata.description = "changed"
    updated = await kind.call(root, "update")(stored)
    found = await kind.get(root, names[0])
    expect(f"{kind.name}: what was answered is stored", found.to_dict(), updated.to_dict())
    expect(f"{kind.name}: changed", (kind.changed(found), found.metadata.description), (True, "changed"))
    expect(f"{kind.name}: the same object", found.metadata.uid, stored.metadata.uid)
    expect(f"{kind.name}: a newer version", found.metadata.last_resource_version, stored.metadata.resource_version)
    step(f"{kind.name}: got and updated")

    spoiled = kind.make(names[1])
    kind.spoil(spoiled)
    unnamed = kind.make("Not a name!")
    for what, status, call in [
        ("created twice", Status.ALREADY_EXISTS, kind.call(root, "create")(kind.make(names[0]))),
        ("created with a bad name", Status.INVALID_ARGUMENT, kind.call(root, "create")(unnamed)),
        ("updated with a bad spec", Status.INVALID_ARGUMENT, kind.call(root, "update")(spoiled)),
        ("updated without being there", Status.NOT_FOUND, kind.call(root, "update")(kind.make("sdk-none"))),
        ("got without being there", Status.NOT_FOUND, kind.get(root, "sdk-none")),
        ("got without a name", Status.INVALID_ARGUMENT, kind.get(root, "")),
        ("deleted without a name", Status.INVALID_ARGUMENT, kind.delete(root, "")),
        ("created by nobody in particular", Status.PERMISSION_DENIED, kind.call(nobody, "create")(kind.make("sdk-x"))),
        ("listed by nobody in particular", Status.PERMISSION_DENIED, kind.page(nobody, 0)),
        ("deleted by nobody in particular", Status.PERMISSION_DENIED, kind.delete(nobody, names[0])),
    ]:
        await expect_status(f"{kind.name} {what}", status, call)
    step(f"{kind.name}: refusals have their codes")

    for name in names:
        await kind.delete(root, name)
    await expect_status(f"{kind.name} deleted twice", Status.NOT_FOUND, kind.delete(root, names[0]))
    left = await all_pages(kind, root)
    expect(f"{kind.name}: what is left", [i.metadata.uid for i in left], [i.metadata.uid for i in before])
    step(f"{kind.name}: deleted")


async def generate(root: OcteliumClient, name: str) -> core.CredentialToken:
    request = core.GenerateCredentialTokenRequest(credential_ref=meta.ObjectReference(name=name))
    return await root.core_v1.generate_credential_token(request)


async def make_credential(root: OcteliumClient, kind: core.CredentialSpecType, user: str) -> core.CredentialToken:
    name = f"{user}-{kind.name.lower().replace('_', '-')}"
    await root.core_v1.create_credential(credential(name, kind, user))
    return await generate(root, name)


async def expect_answer(client: OcteliumClient, url: str, wanted: int) -> None:
    async with client.http_client() as http, await http.get(url) as answer:
        expect(f"GET {url}", answer.status, wanted)
        if wanted == 200:
            expect("the upstream's answer", await answer.json(), {"upstream": "ok"})


async def whoami(client: OcteliumClient, name: str) -> None:
    status = await client.user_v1.get_status(GetStatusRequest())
    expect("get_status: domain", status.domain, client.domain)
    expect("get_status: User", status.user.metadata.name, name)
    expect("get_status: Session", bool(status.session.metadata.name), True)
    step(f"user API: get_status of {name}")


async def spoil_access_token(client: OcteliumClient) -> None:
    """Lets the client see UNAUTHENTICATED, after which it doesn't show its access token again."""
    bad = AuthenticateWithAuthenticationTokenRequest(authentication_token="no such token")
    call = AuthStub(client.channel).authenticate_with_authentication_token(bad)
    await expect_status("a bad authentication token", Status.UNAUTHENTICATED, call)


async def log_ins(node: Node, root: OcteliumClient) -> None:
    """Each way to log in, what it reaches, how it goes on and how it ends."""
    url = f"https://sdk.{node.domain}/hello"
    await root.core_v1.create_service(service("sdk", node.upstream))
    await root.core_v1.create_user(workload("robot", "octelium-api-read-only"))
    kinds = core.CredentialSpecType
    token = (await make_credential(root, kinds.AUTH_TOKEN, "robot")).authentication_token.authentication_token
    oauth2 = (await make_credential(root, kinds.OAUTH2, "robot")).oauth2_credentials
    access = (await make_credential(root, kinds.ACCESS_TOKEN, "robot")).access_token.access_token

    async with by_token(node, token) as robot:
        await robot.core_v1.list_user(core.ListUserOptions())
        await expect_status(
            "a reader that writes", Status.PERMISSION_DENIED, robot.core_v1.create_user(workload("other"))
        )
        await expect_answer(robot, url, 200)
        await whoami(robot, "robot")
        step("auth_token: the API and a Service")

        first = await robot.get_access_token()
        await spoil_access_token(robot)
        second = await robot.get_access_token()
        expect("another token after the refresh", first != second, True)
        await robot.core_v1.list_user(core.ListUserOptions())
        await expect_answer(robot, url, 200)
        user = await robot.core_v1.get_user(meta.GetOptions(name="robot"))
        options = core.ListSessionOptions(user_ref=meta.ObjectReference(uid=user.metadata.uid))
        sessions = (await robot.core_v1.list_session(options)).items
        authentications = sorted(session.status.total_authentications for session in sessions)
        # The other one is that of the access token.
        expect("authentications of the Sessions", authentications, [1, 2])
        step("auth_token: refreshed, the same Session")

        await robot.logout()
        try:
            await robot.get_access_token()
        except AuthenticationError:
            pass
        else:
            raise AssertionError("a token that may be used once was used again after the log-out")
    async with client(node, type="access_token", access_token=second) as late:
        listing = late.core_v1.list_user(core.ListUserOptions())
        await expect_status("the access token after the log-out", Status.UNAUTHENTICATED, listing)
        await expect_answer(late, url, 401)
    step("auth_token: logged out, its access token is over")

    async with by_token(node, token, "service:*") as narrow:
        # The API is a Service too.
        await narrow.core_v1.list_user(core.ListUserOptions())
        await expect_answer(narrow, url, 200)
    async with by_token(node, token, "api:core.MainService/ListUser") as narrow:
        await narrow.core_v1.list_user(core.ListUserOptions())
        listing = narrow.core_v1.list_group(core.ListGroupOptions())
        await expect_status("another method than that of the scope", Status.PERMISSION_DENIED, listing)
        await expect_answer(narrow, url, 403)
    step("auth_token: scopes narrow")

    pair = OAuth2ClientCredentialsConfig(client_id=oauth2.client_id, client_secret=oauth2.client_secret)
    async with client(node, type="oauth2_client_credentials", oauth2_client_credentials=pair) as robot:
        await robot.core_v1.list_user(core.ListUserOptions())
        await expect_answer(robot, url, 200)
        await whoami(robot, "robot")
        first = await robot.get_access_token()
        await spoil_access_token(robot)
        expect("another token", first != await robot.get_access_token(), True)
        await expect_answer(robot, url, 200)
    step("oauth2_client_credentials: the API, a Service, a second token")
    for what, bad in [
        ("another secret", replace(pair, client_secret=access)),
        ("another id", replace(pair, client_id="aaaa-bbbb")),
        ("a bad scope", replace(pair, scopes=("nonsense",))),
    ]:
        try:
            async with client(node, type="oauth2_client_credentials", oauth2_client_credentials=bad):
                raise AssertionError(f"{what} was accepted")
        except AuthenticationError:
            pass
    step("oauth2_client_credentials: bad ones are refused")

    async with client(node, type="access_token", access_token=access) as robot:
        await robot.core_v1.list_user(core.ListUserOptions())
        await expect_answer(robot, url, 200)
        await whoami(robot, "robot")
        # A new one ends the old one.
        await generate(root, "robot-access-token")
        await expect_status(
            "a replaced token", Status.UNAUTHENTICATED, robot.core_v1.list_user(core.ListUserOptions())
        )
        await expect_answer(robot, url, 401)
    step("access_token: the API, a Service, replaced")

    await root.core_v1.delete_user(meta.DeleteOptions(name="robot"))
    try:
        async with by_token(node, token):
            raise AssertionError("a deleted User logged in")
    except GRPCError as error:
        expect("the log-in of a deleted User", error.status, Status.UNAUTHENTICATED)
    await root.core_v1.delete_service(meta.DeleteOptions(name="sdk"))
    step("a deleted User doesn't log in")


async def flow(node: Node) -> None:
    async with by_token(node, node.root_token) as root:
        step("auth_token: root logged in")
        await whoami(root, "root")
        await root.core_v1.create_user(workload("nobody"))
        shown = await make_credential(root, core.CredentialSpecType.ACCESS_TOKEN, "nobody")
        async with client(node, type="access_token", access_token=shown.access_token.access_token) as nobody:
            for kind in kinds(node):
                await resources(kind, root, nobody)
        await log_ins(node, root)
        await root.core_v1.delete_user(meta.DeleteOptions(name="nobody"))
        denied = root.core_v1.delete_namespace(meta.DeleteOptions(name="octelium"))
        await expect_status("what belongs to the system is deleted", Status.PERMISSION_DENIED, denied)
        await root.logout()
        step("root logged out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--address", help="where the node speaks TLS, ADDRESS:PORT, if its names don't lead there")
    parser.add_argument("--ca", required=True, help="the certificate to trust, a PEM file")
    parser.add_argument("--upstream", required=True, help="the URL of an upstream that answers with JSON")
    given = parser.parse_args()
    host, _, port = (given.address or "").rpartition(":")
    address = (host, int(port)) if port else None
    node = Node(given.domain, address, given.ca, os.environ["ROOT_TOKEN"], given.upstream)
    with asyncio.Runner(loop_factory=lambda: Loop(node)) as runner:
        try:
            runner.run(flow(node))
        except Exception:
            traceback.print_exc()
            sys.exit(1)
    print("all as expected", flush=True)


if __name__ == "__main__":
    main()

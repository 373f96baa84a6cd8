#!/usr/bin/env python3
"""Prepares a node for one scenario of the side-by-side bench, then becomes that node.

    start.py SCENARIO PORT TLS_PORT UPSTREAM DIRECTORY [CERT KEY]
    TAG=… sh DIRECTORY/change.sh      makes the last of 1 000 hosts answer with x-route: TAG

The resources are applied by octeliumctl to a node on spare ports; the node that is measured starts on the same data directory.
Prints nothing; octelium-node and octeliumctl are taken from OCTELIUM_BIN (default: target/release of this repository).
"""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("OCTELIUM_BIN") or os.path.join(HERE, "..", "..", "target", "release")
DOMAIN = "bench.local"
ROUTES = 1000


def service(name, upstream, **spec):
    config = spec.pop("config", {})
    config = {"upstream": {"url": f"http://{upstream}"}, **config}
    # The peers add x-forwarded-for; the checks want to see one.
    config.setdefault("http", {}).setdefault("header", {}).setdefault("forwardedMode", "OBFUSCATE")
    return {"kind": "Service", "metadata": {"name": name},
            "spec": {"mode": "HTTP", "isPublic": True, "isAnonymous": True, **spec, "config": config}}


def pairs(**headers):
    return [{"key": key.replace("_", "-"), "value": value} for key, value in headers.items()]


THREE_RULES = {"inlinePolicies": [{"name": "three-rules", "spec": {"rules": [
    {"name": "no-writes-by-others", "effect": "DENY",
     "condition": {"match": '!("dev" in ctx.user.spec.groups) && ctx.request.http.method != "GET"'}},
    {"name": "no-internals", "effect": "DENY", "condition": {"match": 'ctx.request.http.path.startsWith("/internal/")'}},
    {"name": "developers", "effect": "ALLOW", "condition": {
        "match": 'ctx.request.http.method in ["GET", "HEAD"] && ctx.request.http.path.startsWith("/api/") && "dev" in ctx.user.spec.groups'}},
]}}]}


def identities(names):
    out = [{"kind": "Group", "metadata": {"name": "dev"}, "spec": {}}]
    for name, groups in names:
        out.append({"kind": "User", "metadata": {"name": name}, "spec": {"type": "WORKLOAD", "groups": groups}})
        out.append({"kind": "Credential", "metadata": {"name": f"{name}-oauth2"}, "spec": {"type": "OAUTH2", "user": name}})
    return out


def resources(scenario, upstream):
    if scenario in ("jwt", "jwtmany", "jwted"):
        return identities([("good", ["dev"]), ("other", [])]) + [
            service("default", upstream, isAnonymous=False, authorization=THREE_RULES)]
    if scenario == "hdr":
        header = {"addRequestHeaders": pairs(x_req_a="alpha", x_req_b="beta", x_req_c="gamma"),
                  "removeRequestHeaders": ["x-drop-me"], "addResponseHeaders": pairs(x_resp_a="one", x_resp_b="two")}
        return [service("default", upstream, config={"http": {"header": header}})]
    if scenario in ("hosts", "reload"):
        return [service(f"h{k}", upstream, config={"http": {"header": {"addResponseHeaders": pairs(x_route=f"r{k}")}}})
                for k in range(ROUTES)]
    if scenario == "paths":
        def config(k):
            return {"name": f"c{k}", "upstream": {"url": f"http://{upstream}"},
                    "http": {"header": {"forwardedMode": "OBFUSCATE", "addResponseHeaders": pairs(x_route=f"r{k}")}}}
        default = service("default", upstream)
        default["spec"]["config"] = {"http": {"response": {"direct": {"statusCode": 404, "inline": "no such path"}}}}
        default["spec"]["dynamicConfig"] = {
            "configs": [config(k) for k in range(ROUTES)],
            "rules": [{"condition": {"match": f'ctx.request.http.path.startsWith("/svc{k}/")'}, "configName": f"c{k}"}
                      for k in range(ROUTES)]}
        return [default]
    return [service("default", upstream)]


def free():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(port, process):
    until = time.time() + 20
    while time.time() < until:
        if process.poll() is not None:
            sys.exit(f"octelium-node ended with {process.returncode}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit("octelium-node doesn't listen")


def command(data, port, tls_port, *more):
    return [os.path.join(BIN, "octelium-node"), "start", "--domain", DOMAIN, "--data-dir", data, "--listen",
            f"http://127.0.0.1:{port},https://127.0.0.1:{tls_port}", "--workers", "1", "--log", "warn", *more]


def ctl(directory, data, tls_port, *arguments, stdin=None):
    token = open(os.path.join(data, "root.token")).read().strip()
    run = subprocess.run(
        [os.path.join(BIN, "octeliumctl"), "--homedir", directory, "--domain", DOMAIN, "--address", f"127.0.0.1:{tls_port}",
         "--ca-file", os.path.join(data, "ca.pem"), *arguments],
        input=stdin, text=True, capture_output=True, env={**os.environ, "OCTELIUM_AUTH_TOKEN": token})
    if run.returncode:
        sys.exit(f"octeliumctl {arguments}: {run.stderr}")
    return run.stdout


def token(port, credential):
    form = urllib.parse.urlencode({"grant_type": "client_credentials", "client_id": credential["clientID"],
                                   "client_secret": credential["clientSecret"]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/oauth2/token", form, {"Host": DOMAIN})
    return json.load(urllib.request.urlopen(request))["access_token"]


def tokens(directory, data, port, tls_port, many):
    """Tokens under the names that the bench uses for its own."""
    made = {}
    for name in ("good", "other"):
        made[name] = json.loads(ctl(directory, data, tls_port, "create", "credential", "--rotate", f"{name}-oauth2", "-o", "json"))["oauth2Credentials"]
    good, other = token(port, made["good"]), token(port, made["other"])
    forged = good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB")
    out = {"good": good, "good_ed": good, "role": other, "role_ed": other, "forged": forged, "expired": forged, "iss": forged}
    out["many"] = [token(port, made["good"]) for _ in range(many)]
    with open(os.path.join(directory, "tokens.json"), "w") as file:
        json.dump(out, file)


def write_change(tls_port, directory, upstream):
    """A shell script, since what is timed shouldn't be the start of Python."""
    header = {"addResponseHeaders": pairs(x_route="TAG")}
    changed = service(f"h{ROUTES - 1}", upstream, config={"http": {"header": header}})
    data = os.path.join(directory, "data")
    with open(os.path.join(directory, "changed.json"), "w") as file:
        json.dump(changed, file)
    with open(os.path.join(directory, "change.sh"), "w") as file:
        file.write(f"""export OCTELIUM_AUTH_TOKEN=$(cat {data}/root.token)
sed "s/TAG/$TAG/" {directory}/changed.json |
exec {os.path.join(BIN, "octeliumctl")} --homedir {directory} --domain {DOMAIN} --address 127.0.0.1:{tls_port} \\
  --ca-file {data}/ca.pem apply -
""")


def main():
    scenario, port, tls_port, upstream, directory, *certificate = sys.argv[1:]
    data = os.path.join(directory, "data")
    spare, spare_tls = free(), free()
    first = subprocess.Popen(command(data, spare, spare_tls, "--access-log", "off"))
    try:
        wait(spare, first)
        documents = "\n---\n".join(json.dumps(resource) for resource in resources(scenario, upstream))
        ctl(directory, data, spare_tls, "apply", "-", stdin=documents)
        if scenario.startswith("jwt"):
            tokens(directory, data, spare, spare_tls, 2000 if scenario == "jwtmany" else 0)
    finally:
        first.terminate()
        first.wait()
    # The limits of connections are those of a shared machine; the bench is one address with 10 000 of them.
    more = ["--connections-max", "40000", "--connections-per-address-max", "40000", "--idle-timeout", "600s"]
    if certificate and scenario != "reload":  # there octeliumctl comes again, and trusts the node's own CA
        more += ["--tls-certificate", certificate[0], "--tls-key", certificate[1]]
    if scenario == "reload":
        write_change(tls_port, directory, upstream)
    log = os.environ.get("ACCESS_LOG", "off")
    os.execv(os.path.join(BIN, "octelium-node"), command(data, port, tls_port, "--access-log", log, *more))


if __name__ == "__main__":
    main()

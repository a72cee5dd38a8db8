"""The Kubernetes manifests: who reaches what."""

from collections.abc import Iterator

from tests.manifests import (
    SERVERS,
    WORKERS,
    Manifest,
    component,
    every_overlay,
    needs_kubectl,
    of_kind,
    ours,
    pods,
    selected,
)

pytestmark = needs_kubectl


def allowed(overlay: str, direction: str) -> Iterator[tuple[str, int, Manifest]]:
    """Component, port and other side of everything that policies let through."""
    names, key = {component(pod) for pod in pods(overlay).values()}, direction.lower()
    for policy in of_kind(overlay, "NetworkPolicy").values():
        spec = policy["spec"]
        for rule in spec.get(key, ()):
            assert direction in spec["policyTypes"]
            for name in selected(spec["podSelector"], names):
                for port in rule["ports"]:
                    for peer in rule["to" if direction == "Egress" else "from"]:
                        yield name, port["port"], peer


@every_overlay
def test_nothing_goes_in_or_out_of_any_pod_that_is_not_named(overlay: str):
    closed = of_kind(overlay, "NetworkPolicy")["nothing"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@every_overlay
def test_a_policy_selects_pods_that_there_are(overlay: str):
    names = {component(pod) for pod in pods(overlay).values()}
    for policy in of_kind(overlay, "NetworkPolicy").values():
        selector = policy["spec"]["podSelector"]
        assert selected(selector, names)
        for expression in selector.get("matchExpressions", ()):
            assert set(expression["values"]) <= names


@every_overlay
def test_a_part_reaches_what_it_needs_and_nothing_else(overlay: str):
    reached: dict[int, set[str]] = {}
    for name, port, _ in allowed(overlay, "Egress"):
        reached.setdefault(port, set()).add(name)
    users = {name for name, one in ours(overlay).items() if "REDIS_PASSWORD" in str(one["env"])}
    readers = {name for name, one in ours(overlay).items() if "DB_PASSWORD" in str(one["env"])}
    lookers = {name for name, one in ours(overlay).items() if "AWS_SECRET_ACCESS_KEY" in str(one["env"])}
    assert reached == {
        53: set(pods(overlay)),
        443: WORKERS | lookers,
        465: {"worker-control"},
        587: {"worker-control"},
        6379: users,
        5432: readers,
    }


@every_overlay
def test_a_part_is_reached_only_by_who_should(overlay: str):
    outside = [{"kubernetes.io/metadata.name": name} for name in ("ingress-nginx", "monitoring")]
    reached: dict[str, list[Manifest]] = {}
    for name, _, peer in allowed(overlay, "Ingress"):
        reached.setdefault(name, []).append(peer)
    assert reached.keys() == of_kind(overlay, "Service").keys()
    for name in ("dashboard", "flower"):
        assert reached[name] == [{"namespaceSelector": {"matchLabels": labels}} for labels in outside]
    for name in SERVERS & reached.keys():
        inside = {who for peer in reached[name] for who in selected(peer["podSelector"], set(pods(overlay)))}
        assert inside == {who for who, _, peer in allowed(overlay, "Egress") if is_server(peer, name)}


def is_server(peer: Manifest, name: str) -> bool:
    """Whether the other side of a rule is that server."""
    return peer.get("podSelector", {}).get("matchLabels") == {"app.kubernetes.io/component": name}


@every_overlay
def test_https_does_not_reach_neighbours_or_the_metadata_of_the_cloud(overlay: str):
    blocks = [peer["ipBlock"] for _, port, peer in allowed(overlay, "Egress") if port == 443]
    (v4,) = {tuple(block["except"]) for block in blocks if block["cidr"] == "0.0.0.0/0"}
    assert set(v4) >= {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}

"""The SROS2 policy file has the published form and allows all that the node does.

With security enforced, a name that is missing in it makes the node fail on the robot.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from ros_harness import ROOT

from efficientvla_ros.msg import PolicyStatus

FILE = ROOT / 'config/security/policy_node.policy.xml'
PAGE = ROOT / 'docs/policy_node.md'
NODE, NAMESPACE = 'policy_node', '/'

# The schema of SROS2 policies, version 0.2.0: allowed children and attributes.
RULES = {
    'topics': ('topic', {'publish', 'subscribe'}),
    'services': ('service', {'request', 'reply'}),
    'actions': ('action', {'call', 'execute'}),
}


def enclaves() -> dict[str, ET.Element]:
    return {enclave.get('path'): enclave for enclave in ET.parse(FILE).iter('enclave')}


def allowed(kind: str, direction: str, enclave: str = f'/{NODE}') -> set[str]:
    """Full names that an enclave may use in one direction."""
    names = set()
    for profile in enclaves()[enclave].iter('profile'):
        space, node = profile.get('ns'), profile.get('node')
        for group in profile.iter(kind):
            if group.get(direction) == 'ALLOW':
                names |= {full(element.text, space, node) for element in group}
    return names


def full(name: str, space: str = NAMESPACE, node: str = NODE) -> str:
    base = space.rstrip('/')
    if name.startswith('/'):
        return name
    return f'{base}/{node}{name[1:]}' if name.startswith('~') else f'{base}/{name}'


def test_the_file_has_the_form_of_the_schema():
    policy = ET.parse(FILE).getroot()
    assert (policy.tag, policy.attrib) == ('policy', {'version': '0.2.0'})
    (group,) = policy
    assert group.tag == 'enclaves'
    for enclave in group:
        assert enclave.tag == 'enclave'
        assert set(enclave.attrib) == {'path'}
        assert enclave.get('path').startswith('/')
        for profiles in enclave:
            assert profiles.tag == 'profiles'
            for profile in profiles:
                assert profile.tag == 'profile'
                assert set(profile.attrib) == {'ns', 'node'}
                check_rules(profile)


def check_rules(profile: ET.Element) -> None:
    for rules in profile:
        child, directions = RULES[rules.tag]
        assert rules.attrib
        assert set(rules.attrib) <= directions
        assert set(rules.attrib.values()) <= {'ALLOW', 'DENY'}
        names = [element.text for element in rules]
        assert names
        assert names == sorted(names), 'sorted, so that what is missing is seen'
        assert {element.tag for element in rules} == {child}
        assert all(re.fullmatch(r'(~/|/|\*/)?[a-z_]+(/[a-z_]+)*', name) for name in names)


def interfaces() -> list[tuple[list[str], str, str]]:
    """Names, type and direction of every row in the node's table of topics."""
    section = PAGE.read_text(encoding='utf-8').split('## Interfaces')[1].split('\n## ')[0]
    rows = [line for line in section.splitlines() if line.startswith('| `')]
    table = []
    for row in rows:
        topics, kind, direction = (cell.strip() for cell in row.strip('|').split('|'))
        names = re.findall(r'`([^`]+)`', topics)
        table.append(([name.replace('<camera>', 'camera') for name in names], kind, direction))
    return table


def test_every_topic_of_the_node_is_allowed():
    table = interfaces()
    assert len(table) >= 10
    for names, kind, direction in table:
        for name in map(full, names):
            if '/action/' in kind:
                assert name in allowed('actions', 'call')
            elif direction.startswith('in'):
                assert name in allowed('topics', 'subscribe')
            else:
                assert name in allowed('topics', 'publish')
            if 'action' in kind and 'JointTrajectory, ' in kind:  # the gripper: either way
                assert name in allowed('actions', 'call')


def test_the_operator_may_use_what_the_node_offers():
    telemetry = {name for name in allowed('topics', 'publish') if name.startswith(f'/{NODE}/')}
    assert telemetry <= allowed('topics', 'subscribe', '/operator')
    assert allowed('services', 'reply') <= allowed('services', 'request', '/operator')
    assert {'/instruction', '/stop'} <= allowed('topics', 'publish', '/operator')


@pytest.mark.ros
def test_a_configured_node_does_nothing_else(start_policy, make_robot):
    process = start_policy('-p', 'autostart:=true')
    robot = make_robot()
    process.wait_for_line('model .* is ready', timeout=60.0)
    robot.wait_for_state(PolicyStatus.HOLDING)
    node = robot.node

    def names(answer) -> set[str]:
        return {name for name, _ in answer}

    published = names(node.get_publisher_names_and_types_by_node(NODE, NAMESPACE))
    assert '/policy_node/status' in published
    assert published <= allowed('topics', 'publish')
    heard = names(node.get_subscriber_names_and_types_by_node(NODE, NAMESPACE))
    assert '/instruction' in heard
    assert heard <= allowed('topics', 'subscribe')
    offered = names(node.get_service_names_and_types_by_node(NODE, NAMESPACE))
    assert '/policy_node/change_state' in offered
    assert offered <= allowed('services', 'reply')
    assert not names(node.get_client_names_and_types_by_node(NODE, NAMESPACE))

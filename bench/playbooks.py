"""The playbooks people write, with Ansible's default settings. Two gifts: no facts are gathered, and the interpreter
is known."""

from __future__ import annotations

from bench.community import ON_HOSTS

PORT = 18080  # on the hosts: 8080 is often taken on a machine where people work

_HEAD = """\
- hosts: web
  gather_facts: false
  vars:
    stamp: "{{ now(utc=true, fmt='%Y%m%d_%H%M%S') }}"
"""

COMMANDS = (
    _HEAD
    + """\
  tasks:
    - name: Inspect
      command: docker inspect --format {% raw %}{{.Image}}{% endraw %} {{ container_name }}
      register: current
    - name: Tag
      command: docker tag {{ current.stdout }} web:backup_{{ stamp }}
    - name: Stop
      command: docker stop {{ container_name }}
    - name: Remove
      command: docker rm {{ container_name }}
    - name: Run
      command: >-
        docker run --detach --name {{ container_name }} --publish {{ ansible_host }}:PORT:8080
        --restart unless-stopped web:1.0.0
    - name: Verify
      command: docker inspect --format {% raw %}{{.State.Running}}{% endraw %} {{ container_name }}
      register: verified
      failed_when: verified.stdout != 'true'
"""
).replace("PORT", str(PORT))

COMMUNITY = (
    _HEAD
    + f"""\
  environment:
    PYTHONPATH: {ON_HOSTS}
"""
    + """\
  tasks:
    - name: Inspect
      community.docker.docker_container_info:
        name: "{{ container_name }}"
      register: current
    - name: Tag
      community.docker.docker_image_tag:
        name: "{{ current.container.Image }}"
        repository: ["web:backup_{{ stamp }}"]
    - name: Stop
      community.docker.docker_container:
        name: "{{ container_name }}"
        state: stopped
    - name: Remove
      community.docker.docker_container:
        name: "{{ container_name }}"
        state: absent
    - name: Run
      community.docker.docker_container:
        name: "{{ container_name }}"
        image: web:1.0.0
        published_ports: ["{{ ansible_host }}:PORT:8080"]
        restart_policy: unless-stopped
    - name: Verify
      community.docker.docker_container_info:
        name: "{{ container_name }}"
      register: verified
      failed_when: not verified.container.State.Running
"""
).replace("PORT", str(PORT))

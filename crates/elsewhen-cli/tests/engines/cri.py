"""Runs pods through containerd's CRI, as a kubelet does, and prints a line for each thing seen: a label, and what was printed.

Arguments: folder of the generated cri_pb2*.py, address of containerd, image, folder for logs, annotation's offset.
"""

import os
import sys

stubs, address, image, logs, offset = sys.argv[1:]
sys.path.insert(0, stubs)
import cri_pb2 as cri
import cri_pb2_grpc
import grpc

HOST = 2
# As a kubelet asks for it; POD would be one namespace of processes with the sandbox.
CONTAINER = 1
RUNTIME_DEFAULT = 0
runtime = cri_pb2_grpc.RuntimeServiceStub(grpc.insecure_channel("unix:" + address))


def pod(name, handler, annotations, restricted=False):
    config = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="default"),
        log_directory=logs,
        annotations=annotations,
    )
    config.linux.security_context.namespace_options.network = HOST
    config.linux.security_context.namespace_options.pid = CONTAINER
    request = cri.RunPodSandboxRequest(config=config, runtime_handler=handler)
    sandbox = runtime.RunPodSandbox(request, timeout=60).pod_sandbox_id
    script = "trap exit TERM; date +%s; while :; do sleep 1 & wait; done"
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"),
        image=cri.ImageSpec(image=image),
        command=["/bin/sh", "-c", script],
    )
    context = container.linux.security_context
    context.seccomp.profile_type = RUNTIME_DEFAULT
    context.namespace_options.network = HOST
    context.namespace_options.pid = CONTAINER
    if restricted:
        context.run_as_user.value = 1000
        context.no_new_privs = context.readonly_rootfs = True
        context.capabilities.drop_capabilities.append("ALL")

    def start(attempt):
        container.metadata.attempt = attempt
        container.log_path = f"{name}-{attempt}.log"
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
        created = runtime.CreateContainer(request, timeout=60).container_id
        runtime.StartContainer(cri.StartContainerRequest(container_id=created), timeout=60)
        return created

    def session(label, created, *command):
        request = cri.ExecSyncRequest(container_id=created, cmd=command, timeout=30)
        answer = runtime.ExecSync(request, timeout=60)
        print(label, (answer.stdout + answer.stderr).decode().strip(), flush=True)

    try:
        created = start(0)
        session(f"{name}-session", created, "date", "+%s")
        session(f"{name}-container", created, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' ' | cut -c1-10")
        runtime.StopContainer(cri.StopContainerRequest(container_id=created, timeout=30), timeout=60)
        with open(os.path.join(logs, f"{name}-0.log")) as log:
            print(f"{name}-log", log.read().split()[-1], flush=True)
        # A restart is another container in the same sandbox.
        session(f"{name}-restarted", start(1), "date", "+%s")
    finally:
        runtime.StopPodSandbox(cri.PodSandboxRequest(pod_sandbox_id=sandbox), timeout=60)
        runtime.RemovePodSandbox(cri.PodSandboxRequest(pod_sandbox_id=sandbox), timeout=60)


os.makedirs(logs, exist_ok=True)
shifted = {"org.elsewhen.offset": offset}
pod("plain", "elsewhen", {})
pod("shifted", "elsewhen", shifted)
pod("restricted", "elsewhen", shifted, restricted=True)
try:
    pod("bad", "elsewhen", {"org.elsewhen.offset": "soon"})
except grpc.RpcError as error:
    print("bad", error.details(), flush=True)

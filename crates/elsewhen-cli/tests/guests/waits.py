# Waits, in every way that Python has; the conversation is that of waits.c.
import asyncio
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time


def condition(s):
    condition = threading.Condition()
    with condition:
        assert not condition.wait(s)


def queue_get(s):
    try:
        queue.Queue().get(timeout=s)
    except queue.Empty:
        return
    raise AssertionError("something was in the queue")


def selecting(wait):
    def way(s):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert not any(wait(ours, s))

    return way


def polling(ours, s):
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    return poll.poll(s * 1000)


def epolling(ours, s):
    with select.epoll() as epoll:
        epoll.register(ours, select.EPOLLIN)
        return epoll.poll(s)


def socket_timeout(s):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(s)
        try:
            ours.recv(1)
        except TimeoutError:
            return
    raise AssertionError("something was received")


def wait_for(s):
    async def way():
        try:
            await asyncio.wait_for(asyncio.Event().wait(), s)
        except asyncio.TimeoutError:
            return
        raise AssertionError("the event was set")

    asyncio.run(way())


def setitimer(s):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, s)
    signal.pause()


def sigtimedwait(s):
    assert signal.sigtimedwait([signal.SIGUSR2], s) is None


def child(s):
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            process.wait(timeout=s)
        except subprocess.TimeoutExpired:
            process.kill()
            return
    raise AssertionError("the child ended")


def communicate(s):
    try:
        subprocess.run(["sleep", "1000"], timeout=s, capture_output=True)
    except subprocess.TimeoutExpired:
        return
    raise AssertionError("the child ended")


def timer(s):
    over = threading.Event()
    threading.Timer(s, over.set).start()
    over.wait()


WAYS = {
    "time.sleep": time.sleep,
    "Event.wait": lambda s: threading.Event().wait(s),
    "Condition.wait": condition,
    "Lock.acquire": lambda s: [lock := threading.Lock(), lock.acquire(), lock.acquire(timeout=s)],
    "queue.get": queue_get,
    "threading.Timer": timer,
    "select.select": selecting(lambda ours, s: select.select([ours], [], [], s)),
    "select.poll": selecting(polling),
    "select.epoll": selecting(epolling),
    "settimeout": socket_timeout,
    "asyncio.sleep": lambda s: asyncio.run(asyncio.sleep(s)),
    "asyncio.wait_for": wait_for,
    "setitimer": setitimer,
    "sigtimedwait": sigtimedwait,
    "Popen.wait": child,
    "subprocess.run": communicate,
}

print("ways", *WAYS, flush=True)
for line in iter(sys.stdin.readline, ""):
    name, ns = line.split()
    monotonic, realtime = time.monotonic_ns(), time.time_ns()
    WAYS[name](int(ns) / 1e9)
    realtime, monotonic = time.time_ns() - realtime, time.monotonic_ns() - monotonic
    print(ns, monotonic, realtime, flush=True)

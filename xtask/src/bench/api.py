"""Questions to a daemon that speaks libvirt's protocol, each measured.

argv: URI, domains, seconds for each question. Writes lines of a name and a figure: microseconds of a call as its
client sees it; "…cycles" and "…calls" in a second.
"""

import multiprocessing
import statistics
import sys
import time

import libvirt

CLIENTS = 8


def each(seconds, act, least=5):
    """Microseconds of each call, for so long."""
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(taken) < least:
        begin = time.perf_counter()
        act()
        taken.append((time.perf_counter() - begin) * 1e6)
    return taken


def questions(connection, domains):
    """By name, what is asked; those about one domain go round."""
    state = {"next": 0}

    def domain():
        state["next"] = (state["next"] + 1) % len(domains)
        return domains[state["next"]]

    return {
        "list": lambda: connection.listAllDomains(),
        "stats": lambda: connection.getAllDomainStats(),
        "info": lambda: domain().info(),
        "xml": lambda: domain().XMLDesc(),
        "lookup": lambda: connection.lookupByName(domain().name()),
    }


def percentile(taken, part):
    return sorted(taken)[min(len(taken) - 1, int(len(taken) * part))]


def busy(uri, seconds, begin, results):
    """One of several clients that work at once."""
    connection = libvirt.open(uri)
    asked = questions(connection, connection.listAllDomains())
    taken = {name: [] for name in asked}
    begin.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, act in asked.items():
            # Many small questions for each about all.
            for _ in range(1 if name in ("list", "stats") else 20):
                start = time.perf_counter()
                act()
                taken[name].append((time.perf_counter() - start) * 1e6)
    results.put(taken)


def main():
    uri, count, seconds, definition = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    # What clients print of what they are refused is no measurement.
    libvirt.registerErrorHandler(lambda *_: None, None)
    connection = libvirt.open(uri)
    domains = connection.listAllDomains()
    assert len(domains) == count, len(domains)
    for name, act in questions(connection, domains).items():
        act()
        print(name, statistics.median(each(seconds, act)))

    def cycle():
        connection.defineXML(definition).undefine()

    print("cycles", 1e6 / statistics.median(each(seconds, cycle)))

    begin, results = multiprocessing.Event(), multiprocessing.Queue()
    work = (uri, 2 * seconds, begin, results)
    clients = [multiprocessing.Process(target=busy, args=work) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(1)
    begin.set()
    all_taken = [results.get() for _ in clients]
    for client in clients:
        client.join()
    for name in all_taken[0]:
        taken = [one for client in all_taken for one in client[name]]
        print(f"busy_{name}", percentile(taken, 0.99))
    calls = sum(len(taken) for client in all_taken for taken in client.values())
    print("busy_calls", calls / (2 * seconds))


main()

def rule(action, port):
    return ["-t", "nat", action, "PREROUTING", "-p", "tcp", "--dport", str(port), "-j", "DNAT"]

#!/usr/bin/env python3
"""A client of Fulmar's TCP protocol (docs/protocol.md), in one file and without a dependency.

    python3 fulmar_tcp.py localhost:9001 publish orders.v1 hello --key 42
    python3 fulmar_tcp.py localhost:9001 pull orders.v1 --partition 0
    python3 fulmar_tcp.py localhost:9001 follow orders.v1
"""
import argparse
import collections
import socket
import struct

PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PULL, PING, DELIVERED, ERROR = 1, 2, 3, 4, 5, 0xC2, 0xFF
EARLIEST, LATEST, OFFSET, TIME = 0, 1, 2, 3
NONE, NOW = 0xFFFFFFFF, -(2**63)
Message = collections.namedtuple("Message", "partition offset append_time timestamp key headers value")


class Failed(Exception):
    """What the broker refused; `retry_after` seconds if the same request may simply be sent again."""

    def __init__(self, reason, retry_after, message):
        super().__init__(message)
        self.reason, self.retry_after = reason, retry_after


def _crc_of(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRCS = [_crc_of(byte) for byte in range(256)]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRCS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def sized(data):
    if data is None:
        return struct.pack(">I", NONE)
    return struct.pack(">I", len(data)) + data


class Fields:
    """Reads a body, field after field."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.body, self.at)
        self.at += struct.calcsize(">" + form)
        return values if len(values) > 1 else values[0]

    def sized(self):
        length = self.take("I")
        if length == NONE:
            return None
        self.at += length
        return self.body[self.at - length : self.at]

    def messages(self):
        for _ in range(self.take("I")):
            place, key = self.take("IQqq"), self.sized()
            headers = [(self.sized().decode(), self.sized()) for _ in range(self.take("H"))]
            yield Message(*place, key, headers, self.sized())


class Client:
    """One connection, for one thread."""

    def __init__(self, host="localhost", port=9001, timeout=60):
        self.socket = socket.create_connection((host, port), timeout)
        self.stream, self.requests, self.waiting = self.socket.makefile("rb"), 0, {}

    def close(self):
        self.stream.close()
        self.socket.close()

    def publish(self, topic, value, key=None, headers=(), partition=NONE, timestamp=NOW, placement=0):
        """Answers when the message is committed: (partition, offset)."""
        return self.publish_all(topic, [(value, key, headers, timestamp)], partition, placement)[0]

    def publish_all(self, topic, messages, partition=NONE, placement=0):
        """Messages are (value, key, headers, timestamp); those of one partition become one batch."""
        body = sized(topic.encode()) + struct.pack(">IBI", partition, placement, len(messages))
        for value, key, headers, timestamp in messages:
            body += struct.pack(">q", timestamp) + sized(key) + struct.pack(">H", len(headers))
            body += b"".join(sized(name.encode()) + sized(data) for name, data in headers) + sized(value)
        fields = self._answer(self._send(PUBLISH, body))
        outcomes = [(*fields.take("HIQ"), fields.sized()) for _ in range(fields.take("I"))]
        for reason, _, _, why in outcomes:
            if reason:
                raise Failed(reason, None, why.decode())
        return [(partition, offset) for _, partition, offset, _ in outcomes]

    def pull(self, topic, partition, start=(EARLIEST, 0), most=100, wait=0):
        """Some messages, and the offset to go on at. `wait`: seconds, if there are none."""
        body = sized(topic.encode()) + struct.pack(">IBQII", partition, *start, most, int(wait * 1000))
        fields = self._answer(self._send(PULL, body))
        following = fields.take("Q")
        return list(fields.messages()), following

    def follow(self, topic, partition=NONE, start=(EARLIEST, 0)):
        """Messages, and those that come, until the generator is closed."""
        number = self._send(SUBSCRIBE, sized(topic.encode()) + struct.pack(">IBQ", partition, *start))
        self._answer(number)
        try:
            while True:
                yield from self._answer(number).messages()
        finally:
            self._send(UNSUBSCRIBE, b"", number)

    def ping(self, data=b""):
        return self._answer(self._send(PING, data)).body

    def _send(self, kind, body, number=None):
        if number is None:
            self.requests += 1
            number = self.requests
        frame = struct.pack(">2sBBII", b"FM", 1, kind, number, len(body)) + body
        self.socket.sendall(frame + struct.pack(">I", crc32c(frame)))
        return number

    def _answer(self, number):
        """The next frame of this request; those of others wait."""
        while not self.waiting.get(number):
            head = self._read(12)
            _, _, kind, whose, length = struct.unpack(">2sBBII", head)
            body = self._read(length)
            if struct.unpack(">I", self._read(4))[0] != crc32c(head + body):
                raise ConnectionError("a frame was changed on its way")
            self.waiting.setdefault(whose or number, collections.deque()).append((kind, body))
        kind, body = self.waiting[number].popleft()
        fields = Fields(body)
        if kind == ERROR:
            reason, after = fields.take("HI")
            raise Failed(reason, after / 1000 or None, fields.sized().decode())
        return fields

    def _read(self, length):
        data = self.stream.read(length)
        if len(data) < length:
            raise ConnectionError("the broker has closed the connection")
        return data


def main():
    parser = argparse.ArgumentParser(description="publish and read by Fulmar's TCP protocol")
    parser.add_argument("server", help="HOST:PORT of any broker")
    commands = parser.add_subparsers(dest="command", required=True)
    publish = commands.add_parser("publish", help="publish one message")
    publish.add_argument("topic")
    publish.add_argument("message")
    publish.add_argument("--key")
    publish.add_argument("--sha256", action="store_true", help="place the key by SHA-256")
    pull = commands.add_parser("pull", help="read one partition")
    pull.add_argument("topic")
    pull.add_argument("--partition", type=int, default=0)
    pull.add_argument("--offset", type=int, help="from there on; else from the earliest")
    pull.add_argument("--wait", type=float, default=0, help="seconds, if there are none")
    follow = commands.add_parser("follow", help="all messages, and those that come")
    follow.add_argument("topic")
    follow.add_argument("-n", type=int, help="stop after so many")
    given = parser.parse_args()
    host, port = given.server.rsplit(":", 1)
    client = Client(host, int(port))
    if given.command == "publish":
        key = None if given.key is None else given.key.encode()
        placed = client.publish(given.topic, given.message.encode(), key, placement=int(given.sha256))
        print("partition {} offset {}".format(*placed))
        return
    if given.command == "pull":
        start = (EARLIEST, 0) if given.offset is None else (OFFSET, given.offset)
        messages, _ = client.pull(given.topic, given.partition, start, wait=given.wait)
    else:
        messages = client.follow(given.topic)
    for count, message in enumerate(messages, 1):
        print(message.partition, message.offset, message.value.decode(errors="replace"), sep="\t", flush=True)
        if given.command == "follow" and count == given.n:
            break


if __name__ == "__main__":
    main()

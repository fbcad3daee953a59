#!/bin/sh
# Runs the example daemon and its client. A hook allows db, and refuses a shell. All its files are removed at the end.
cd "$(dirname "$0")/../.." || exit
cargo build --quiet --example daemon || exit

directory=$(mktemp -d) || exit
trap 'kill "$daemon" 2> /dev/null; rm -r "$directory"' EXIT
echo "\$ daemon --hooks examples/hooks --socket daemon.sock &"
cargo run --quiet --example daemon -- --hooks examples/hooks --socket "$directory/daemon.sock" 2> "$directory/log" &
daemon=$!
until grep -qs ready "$directory/log"; do
    kill -0 "$daemon" || { cat "$directory/log"; exit 1; }
    sleep 0.1
done

ctl() {
    echo "\$ daemon ctl --socket daemon.sock $*"
    cargo run --quiet --example daemon -- ctl --socket "$directory/daemon.sock" "$@"
}
ctl start db sleep 100
ctl start oops sh
ctl list
ctl stop db

echo "\$ kill -TERM %1"
kill -TERM "$daemon"
wait "$daemon"
echo "exit status $?"
trap 'rm -r "$directory"' EXIT

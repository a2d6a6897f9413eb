# Sourced by scripts that start a server with --port 0: `wait_for_port STATE_FOLDER PID ERRORS WHAT QUARTERS` sets `port`
# once the server has written down where it is, and ends the script with the server's errors where it doesn't in so many
# quarters of a second.
wait_for_port() {
    port=""
    tries=0
    while [ -z "$port" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt "$5" ] || ! kill -0 "$2" 2>/dev/null; then
            echo "$4 did not start:" >&2
            cat "$3" >&2
            exit 1
        fi
        port=$(sed -n 's/.*"port":\([0-9]*\).*/\1/p' "$1/server.json" 2>/dev/null || true)
        sleep 0.25
    done
}

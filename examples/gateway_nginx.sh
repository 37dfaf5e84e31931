#!/bin/sh
# nginx as it is, behind a Kwik gateway, fetched over Kwik: gateway_nginx.sh [PORT_FOR_NGINX]
set -eu
port=${1:-8080}
work=$(mktemp -d)
trap 'kill $(cat "$work"/*.pid) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" && chmod 755 .  # nginx drops its privileges when it is started by root

mkdir html
echo 'hello from nginx' >html/index.txt
cat >nginx.conf <<END
daemon off; pid nginx.own; error_log stderr;
events {}
http { access_log off; server { listen 127.0.0.1:$port; root $work/html; } }
END
nginx -p "$work" -c "$work/nginx.conf" &
echo $! >nginx.pid

kwik certs app.example
# Not --replicated: nginx puts the date of each answer into it, and no two servers would agree on the first block.
kwik serve --listen 127.0.0.1:0 --service app.example:80 --upstream "127.0.0.1:$port" \
  --cert certs/app.example.pem --key certs/app.example.key --json >ready &
echo $! >gateway.pid
until [ -s ready ] && [ -s nginx.own ]; do kill -0 "$(cat nginx.pid)"; sleep 0.1; done
server=$(sed 's/.*"listen": "\([^"]*\)".*/\1/' ready)

kwik get http://app.example/index.txt -o - --server "$server" --cafile certs/ca.pem

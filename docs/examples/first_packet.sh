# The first packet over HTTP. Source it (`. docs/examples/first_packet.sh`) while a sandbox system of `hongbao up` runs:
# it sets URL, OPERATOR, BOSS and PACKET for the commands that follow.

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

URL=$(hongbao status --json | field url)
OPERATOR=$(hongbao token --scope operator)

# 1. A user with money. Only a sandbox has this route. The answer carries the user's token.
BOSS=$(curl -s "$URL/sandbox/users" -H "Authorization: Bearer $OPERATOR" -H 'Content-Type: application/json' \
  -d '{"user": "boss", "tenant": "wechat", "balance_fen": 100000}' | field token)

# 2. The user sends 10 yuan in 5 random shares. The idempotency key makes a repeat harmless.
PACKET=$(curl -s "$URL/v1/packets" -H "Authorization: Bearer $BOSS" -H 'Content-Type: application/json' \
  -H 'Idempotency-Key: new-year-1' \
  -d '{"kind": "lucky", "total_fen": 1000, "count": 5, "greeting": "恭喜发财"}' | field packet_id)
echo "packet $PACKET"

# 3. Another user takes a share.
curl -s -X POST "$URL/v1/packets/$PACKET/grabs" -H "Authorization: Bearer $(hongbao token --tenant wechat --user mei)"
echo

#!/bin/bash
# Donors and borrowers that know each other by certificates of one CA, made with openssl's own command;
# roles are organizational units; another CA's, or another name, gets nowhere.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/keep-functions.sh"
requires userfaultfd
requires openssl
cd "$scratch"

ca() { # NAME
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.pem" \
		-days 2 -subj "/CN=$1" 2> openssl.log || fail "$(cat openssl.log)"
}
issue() { # CA NAME SUBJECT [ALTNAMES]
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$2.key" -out "$2.csr" \
		-subj "$3" 2> openssl.log || fail "$(cat openssl.log)"
	openssl x509 -req -in "$2.csr" -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -days 2 -out "$2.pem" \
		-extfile <(printf '%s\n' "${4:+subjectAltName=$4}") 2> openssl.log || fail "$(cat openssl.log)"
	chmod 600 "$2.key"
}
as() { # NAME CA COMMAND...
	local name=$1 ca=$2; shift 2
	"$@" --tls-ca "$ca.pem" --tls-cert "$name.pem" --tls-cert-key "$name.key"
}
ca ours; ca theirs
issue ours donor "/CN=donor" "IP:127.0.0.1"
issue ours elsewhere "/CN=elsewhere" "IP:10.9.9.9"
issue ours node "/CN=node"
issue ours boss "/CN=boss/OU=admin"
issue theirs stranger "/CN=stranger"
start_donor a --tls-ca ours.pem --tls-cert donor.pem --tls-cert-key donor.key
start_donor b --tls-ca ours.pem --tls-cert elsewhere.pem --tls-cert-key elsewhere.key

exits_with 0 as node ours infuse donors --donor "$donor_a_tcp"
exits_with 0 as boss ours infuse drain --undo "$donor_a_tcp"
exits_with 1 as node ours infuse drain --undo "$donor_a_tcp"
exits_with 1 as stranger ours infuse donors --donor "$donor_a_tcp"
exits_with 1 as node theirs infuse donors --donor "$donor_a_tcp"
[[ $err == *"certificate"* ]] || fail "$err"
exits_with 1 as node ours infuse donors --donor "$donor_b_tcp"
[[ $err == *"certificate is not good"* ]] || fail "$err"
exits_with 1 infuse donors --donor "$donor_a_tcp"
chmod 644 donor.key
exits_with 1 infuse serve --listen tcp:127.0.0.1:0 --size 4M --no-registry --tls-ca ours.pem --tls-cert donor.pem \
	--tls-cert-key donor.key
[[ $err == *"open to others"* ]] || fail "$err"
exits_with 1 infuse serve --listen tcp:127.0.0.1:0 --size 4M --no-registry --tls-ca ours.pem
[[ $err == *"three files"* ]] || fail "$err"

export INFUSE_TLS_CA=$scratch/ours.pem INFUSE_TLS_CERT=$scratch/node.pem INFUSE_TLS_CERT_KEY=$scratch/node.key
keep by-certificate "$donor_a_tcp" 4
kept by-certificate

# SPDX-License-Identifier: MIT
# etcd behind TLS with certificates of both ends, and with its users: a name and a password from a file
# that nobody else may read, exchanged for a token that ends after some seconds and is got again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/etcd-functions.sh
. "$(dirname "$0")/etcd-functions.sh"
requires openssl

cd "$scratch"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.pem \
	-subj /CN=ca 2> openssl.log
# No common names: etcd's gateway refuses requests of clients that have one once there are users.
for who in server client; do
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $who.key -out $who.csr \
		-subj "/O=$who" 2>> openssl.log
	openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out $who.pem \
		-extfile <(echo "subjectAltName=IP:127.0.0.1") 2>> openssl.log
done

etcd_tls=$(free_ports 1)
ETCD_OPTIONS="--cert-file server.pem --key-file server.key --client-cert-auth --trusted-ca-file ca.pem --auth-token-ttl 2"
start_etcd 1
tls="etcd:https://127.0.0.1:$etcd_tls/cluster"
all="$tls?ca=ca.pem&cert=client.pem&key=client.key"

exits_with 0 infuse donors --registry "$all"
exits_with 1 infuse donors --registry "$tls?ca=ca.pem"
exits_with 1 infuse donors --registry "$tls?cert=client.pem&key=client.key"
case $err in *certificate*) ;; *) fail "an unknown certificate: $err" ;; esac

# root needs its role before users are asked for
says() { etcd_says "${etcd_port[0]}" "$@"; }
says /v3/auth/user/add '{"name":"root","password":"tops3cret"}' > out.log
says /v3/auth/user/grant '{"user":"root","role":"root"}' >> out.log
says /v3/auth/role/add '{"name":"root"}' >> out.log
says /v3/auth/user/grant '{"user":"root","role":"root"}' >> out.log
says /v3/auth/enable '{}' >> out.log
exits_with 1 infuse donors --registry "$all"
case $err in *"refused: "*) ;; *) fail "without a user: $err" ;; esac
printf 'root:tops3cret\n' > user
chmod 644 user
exits_with 1 infuse donors --registry "$all&user-file=user"
case $err in *"chmod 600"*) ;; *) fail "a file that others may read: $err" ;; esac
chmod 600 user
exits_with 0 infuse donors --registry "$all&user-file=user"
printf 'root:wrong\n' > wrong
chmod 600 wrong
exits_with 1 infuse donors --registry "$all&user-file=wrong"
case $err in *"refused: "*) ;; *) fail "a wrong password: $err" ;; esac
case $err in *wrong*) fail "it told the password: $err" ;; esac
exits_with 1 infuse donors --registry "etcd:https://root:tops3cret@127.0.0.1:$etcd_tls"
case $err in *"belongs in a file"*) ;; *) fail "a password in the url: $err" ;; esac

# A donor announces itself there, for longer than a token lasts.
start_announced_donor a "$all&user-file=user"
is_listed() { infuse donors --registry "$all&user-file=user" | grep -q '^a .*up$'; }
until_true 20 is_listed
sleep 8
is_listed || fail "the donor is no longer listed: $(cat a.log)"
! grep -q tops3cret ./*.log || fail "the password is in a log"
token=$(says /v3/auth/authenticate '{"name":"root","password":"tops3cret"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
printf '%s\n' "$token" > token
chmod 600 token
exits_with 0 infuse donors --registry "$all&token-file=token"

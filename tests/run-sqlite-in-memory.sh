# SPDX-License-Identifier: MIT
# sqlite3 gives the same answers from a :memory: database of which a quarter is local.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires sqlite3

start_donor a --size 512M --lazy
cat > "$scratch/job.sql" <<'SQL'
create table t(a integer, b text, c text);
with recursive n(x) as (select 1 union all select x + 1 from n where x < 400000)
	insert into t select x, hex(x * 7919 % 10007), printf('%032d', x * 31 % 65537) from n;
create index by_b on t(b, a);
select count(*), sum(a), min(c), max(c) from t;
select b, count(*), sum(a) from t group by b order by 3 desc limit 50;
select count(*) from t x join t y on y.b = x.b where x.a < 2000 and y.a > 390000;
update t set c = b || a where a % 7 = 0;
delete from t where a % 11 = 0;
select count(*), sum(length(c)) from t;
SQL
equal 16M sqlite3 :memory: ".read $scratch/job.sql"
[ "$(wc -l < "$scratch/plain.out")" -gt 50 ] || fail "sqlite3 itself did not do the job"
went_out 5000

-- SPDX-License-Identifier: MIT
-- Loads package.tsv and relation.tsv of the current folder into memory and asks what one asks of a
-- distribution. Every query has a total order, so that two runs can be compared byte for byte.
CREATE TABLE package(id INTEGER PRIMARY KEY, name TEXT, version TEXT, section TEXT, priority TEXT,
	maintainer TEXT, source TEXT, architecture TEXT, installed_kib INTEGER, bytes INTEGER,
	sha256 TEXT, description TEXT, filename TEXT, homepage TEXT, tag TEXT, description_md5 TEXT);
CREATE TABLE relation(package INTEGER, kind TEXT, target TEXT, versions TEXT);
.mode ascii
.separator "\t" "\n"
.import package.tsv package
.import relation.tsv relation
CREATE INDEX package_name ON package(name);
CREATE INDEX package_maintainer ON package(maintainer);
CREATE INDEX package_source ON package(source);
CREATE INDEX package_sha256 ON package(sha256);
CREATE INDEX relation_target ON relation(target, kind);
CREATE INDEX relation_package ON relation(package);
.mode list
.separator " | " "\n"

.print -- How much there is
SELECT count(*), count(DISTINCT source), count(DISTINCT maintainer), sum(bytes), sum(installed_kib)
	FROM package;
SELECT kind, count(*) FROM relation GROUP BY kind ORDER BY kind;

.print -- The biggest packages of each section
SELECT section, name, installed_kib FROM
	(SELECT section, name, version, installed_kib,
		row_number() OVER (PARTITION BY section ORDER BY installed_kib DESC, name, version) AS rank
		FROM package)
	WHERE rank <= 3 ORDER BY section, rank;

.print -- Maintainers with most packages
SELECT maintainer, count(*) AS n, count(DISTINCT source), sum(installed_kib) FROM package
	GROUP BY maintainer ORDER BY n DESC, maintainer LIMIT 40;

.print -- What most others depend on
SELECT p.name, count(DISTINCT r.package) AS n FROM package p
	JOIN relation r ON r.target = p.name AND r.kind = 'depends'
	GROUP BY p.name ORDER BY n DESC, p.name LIMIT 60;

.print -- Dependencies that nothing here satisfies
SELECT target, count(*) AS n FROM relation
	WHERE kind = 'depends' AND NOT EXISTS (SELECT 1 FROM package WHERE name = target)
		AND NOT EXISTS (SELECT 1 FROM relation p WHERE p.target = relation.target AND p.kind = 'provides')
	GROUP BY target ORDER BY n DESC, target LIMIT 40;

.print -- All that comes with a desktop browser, and how deep
WITH RECURSIVE closure(name, depth) AS (
	SELECT 'firefox-esr', 0
	UNION
	SELECT r.target, c.depth + 1 FROM closure c
		JOIN package p ON p.name = c.name
		JOIN relation r ON r.package = p.id AND r.kind = 'depends'
		WHERE c.depth < 6)
SELECT depth, count(*) FROM (SELECT name, min(depth) AS depth FROM closure GROUP BY name)
	GROUP BY depth ORDER BY depth;

.print -- Words in descriptions
SELECT word.w, count(*), min(p.name), max(p.name) FROM package p
	JOIN (SELECT 'memory' AS w UNION ALL SELECT 'simulation' UNION ALL SELECT 'matrix'
		UNION ALL SELECT 'network' UNION ALL SELECT 'kernel' UNION ALL SELECT 'cluster') word
	ON p.description LIKE '%' || word.w || '%'
	GROUP BY word.w ORDER BY word.w;

.print -- Sources that build most binary packages, with their biggest
SELECT source, count(*) AS n, max(installed_kib) FROM package
	GROUP BY source ORDER BY n DESC, source LIMIT 40;

.print -- Recommended by many but needed by none
SELECT r.target, count(*) AS n FROM relation r JOIN package p ON p.name = r.target
	WHERE r.kind = 'recommends' AND NOT EXISTS
		(SELECT 1 FROM relation d WHERE d.target = r.target AND d.kind = 'depends')
	GROUP BY r.target ORDER BY n DESC, r.target LIMIT 40;

.print -- Where projects live
SELECT host, count(*) AS n, count(DISTINCT source) FROM
	(SELECT source, substr(rest, 1, instr(rest || '/', '/') - 1) AS host FROM
		(SELECT source, substr(homepage, instr(homepage, '//') + 2) AS rest FROM package
			WHERE homepage <> ''))
	GROUP BY host ORDER BY n DESC, host LIMIT 40;

.print -- What the tags say packages are for
SELECT t.tag, count(*) AS n, sum(p.bytes) FROM package p
	JOIN (SELECT DISTINCT trim(substr(tag, 1, instr(tag || ',', ',') - 1)) AS tag FROM package
		WHERE tag <> '') t ON instr(p.tag, t.tag)
	WHERE t.tag LIKE 'use::%' OR t.tag LIKE 'field::%' GROUP BY t.tag ORDER BY n DESC, t.tag LIMIT 30;

.print -- Looked up one by one, in the order of their checksums
SELECT count(*), sum(length(r.versions)), sum(p.bytes % 1009) FROM package p
	JOIN relation r ON r.package = p.id WHERE p.sha256 > '8';

.print -- Longest descriptions, by their checksums' order
SELECT substr(sha256, 1, 12), name, length(description) FROM package
	ORDER BY length(description) DESC, sha256 LIMIT 30;

# SPDX-License-Identifier: MIT
# Debian's Packages files, on standard input, to two tables of tab-separated lines in the folder OUT,
# of the first MOST packages (0: all):
# package.tsv (the columns of queries.sql) and relation.tsv (package kind target versions), one line
# for each package named in a Depends, Recommends, Suggests, Provides and so on.
function field(name)	{ return (name in f) ? f[name] : "" }

function relations(kind, list,    n, i, part, alternatives, m, j, name, versions) {
	n = split(list, part, ",")
	for (i = 1; i <= n; i++) {
		m = split(part[i], alternatives, "|")
		for (j = 1; j <= m; j++) {
			name = alternatives[j]
			sub(/^[ \t]+/, "", name)
			versions = name
			if (!sub(/^[^(]*/, "", versions))
				versions = ""
			sub(/[ \t(:].*$/, "", name)
			if (name != "")
				print id, kind, name, versions > (OUT "/relation.tsv")
		}
	}
}

function paragraph(    source) {
	if (!("Package" in f))
		return
	if (MOST && id == MOST) {
		split("", f)
		return
	}
	id++
	source = ("Source" in f) ? f["Source"] : f["Package"]
	sub(/ .*/, "", source)
	print id, f["Package"], field("Version"), field("Section"), field("Priority"), \
		field("Maintainer"), source, field("Architecture"), field("Installed-Size") + 0, \
		field("Size") + 0, field("SHA256"), field("Description"), field("Filename"), \
		field("Homepage"), field("Tag"), field("Description-md5") > (OUT "/package.tsv")
	relations("depends", field("Depends"))
	relations("depends", field("Pre-Depends"))
	relations("recommends", field("Recommends"))
	relations("suggests", field("Suggests"))
	relations("provides", field("Provides"))
	relations("breaks", field("Breaks"))
	relations("replaces", field("Replaces"))
	relations("conflicts", field("Conflicts"))
	split("", f)
}

BEGIN		{ OFS = "\t" }
/^$/		{ paragraph(); next }
# A folded line goes on with the field before it.
/^[ \t]/	{ if (last != "") f[last] = f[last] $0; next }
{
	colon = index($0, ":")
	value = substr($0, colon + 2)
	gsub(/\t/, " ", value)
	last = substr($0, 1, colon - 1)
	f[last] = value
}
END		{ paragraph() }

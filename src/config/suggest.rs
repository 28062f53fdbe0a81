//! "did you mean": the known word that is nearest to a wrong one.

/// Texts for keys that other gateways and clients have.
const ELSEWHERE: &[(&str, &str)] = &[
    ("mcpServers", "write `servers:`"),
    ("mcp_servers", "write `servers:`"),
    ("url", "remote servers are not supported"),
    ("serverUrl", "remote servers are not supported"),
    ("headers", "remote servers are not supported"),
    ("type", "leave it out: every server is a command that talks over stdio"),
    ("token", "tokens are not supported; write `user:` or `group:`, whom the kernel vouches for"),
    ("transport", "leave it out: every server is a command that talks over stdio"),
    ("disabled", "use `enabled: false`"),
    ("timeout", "use `timeouts: {call: …}`"),
];

/// The end of a message about the unknown key `key`: a remedy, the nearest key, or nothing.
pub(super) fn hint(key: &str, known: &[&str]) -> String {
    match ELSEWHERE.iter().find(|(other, _)| *other == key) {
        Some((_, text)) => format!(": {text}"),
        None => did_you_mean(key, known),
    }
}

/// ` (did you mean …?)`, or nothing if no word is near.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let folded = fold(word);
    known
        .iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, candidate)| format!(" (did you mean `{candidate}`?)"))
}

/// Case and word breaks do not count: `idleTimeout` is `idle_timeout`. Cut, so that a long key
/// costs no time.
fn fold(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    letters.flat_map(char::to_lowercase).take(40).collect()
}

/// Optimal string alignment: insert, delete, replace, or swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_nearest_word() {
        let known = ["command", "args", "env", "idle_timeout", "tools"];
        let table = [
            ("comand", " (did you mean `command`?)"),
            ("agrs", " (did you mean `args`?)"),
            ("idleTimeout", " (did you mean `idle_timeout`?)"),
            ("idle-timout", " (did you mean `idle_timeout`?)"),
            ("ENV", " (did you mean `env`?)"),
            ("frobnicate", ""),
            ("", ""),
        ];
        for (word, expected) in table {
            assert_eq!(super::did_you_mean(word, &known), expected, "{word:?}");
        }
    }
}

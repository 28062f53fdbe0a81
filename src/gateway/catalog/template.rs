//! Whether a URI could have come from a URI template (RFC 6570).

/// Variables match anything but the empty text; what stands between them must be there in order.
/// Good enough to tell whose template it is: the backend itself decides what the URI means.
pub(crate) fn fits(template: &str, uri: &str) -> bool {
    let mut rest = uri;
    let mut open = false;
    let mut tail = template;
    loop {
        let (literal, variable) = match tail.find('{') {
            Some(start) => match tail[start..].find('}') {
                Some(end) => {
                    let expression = &tail[start + 1..start + end];
                    let literal = &tail[..start];
                    tail = &tail[start + end + 1..];
                    (literal, Some(expression))
                }
                None => return false,
            },
            None => (tail, None),
        };
        match (open, rest.find(literal)) {
            (false, _) if rest.starts_with(literal) => rest = &rest[literal.len()..],
            (true, Some(at)) if variable.is_some() => rest = &rest[at + literal.len()..],
            // The last literal closes the URI.
            (true, _) if variable.is_none() && rest.ends_with(literal) => return !rest.is_empty(),
            _ => return false,
        }
        match variable {
            None => return rest.is_empty(),
            // Queries, fragments and continuations may expand to nothing.
            Some(expression) if expression.starts_with(['?', '&', '#', '/', '.', ';']) => {
                if tail.is_empty() {
                    return true;
                }
                open = true;
            }
            Some(_) => {
                if rest.is_empty() {
                    return false;
                }
                open = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_table_of_templates() {
        let table = [
            ("test://template/{id}/data", "test://template/1/data", true),
            ("test://template/{id}/data", "test://template/1/other", false),
            ("test://template/{id}/data", "test://other/1/data", false),
            ("file:///{path}", "file:///a/b", true),
            ("file:///{path}", "file:///", false),
            ("a://{x}/{y}", "a://1/2", true),
            ("a://{x}/{y}", "a://1", false),
            ("a://list{?page}", "a://list", true),
            ("a://list{?page}", "a://list?page=2", true),
            ("plain://x", "plain://x", true),
            ("plain://x", "plain://xy", false),
            ("broken://{x", "broken://1", false),
        ];
        for (template, uri, expected) in table {
            assert_eq!(fits(template, uri), expected, "{template} {uri}");
        }
    }
}

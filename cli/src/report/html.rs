//! A page that needs nothing but itself: no scripts, no fonts, no network.

/// Text that is safe between tags and within attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters would make the page invalid; line breaks and tabs stay.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A table; the cells are plain text. The first cell of a row names it.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<table>\n");
    if !head.is_empty() {
        let cells: String = head.iter().map(|h| format!("<th>{}</th>", escape(h))).collect();
        out.push_str(&format!("<tr>{cells}</tr>\n"));
    }
    for row in rows {
        let cells: String = row.iter().map(|c| format!("<td>{}</td>", escape(c))).collect();
        out.push_str(&format!("<tr>{cells}</tr>\n"));
    }
    out.push_str("</table>\n");
    out
}

/// The whole page around a body of HTML.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2327; --paper: #fff; --soft: #d5dade; --a: #9aa5ad; --b: #0b62a4; --c: #a33c00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ecef; --paper: #15191c; --soft: #3a4349; --a: #7f8b94; --b: #6db8f2; --c: #ff9d5c; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid var(--b); padding-left: 1rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--soft); }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--ink); }
polyline { fill: none; stroke-width: 2; } .grid { stroke: var(--soft); }
polyline.a { stroke: var(--a); stroke-width: 1; } polyline.b { stroke: var(--b); } polyline.c { stroke: var(--c); }
.key { display: inline-block; width: 1.2rem; height: 3px; vertical-align: middle; background: var(--a); }
.key.b { background: var(--b); } .key.c { background: var(--c); } .mark { fill: var(--c); }
.wide { overflow-x: auto; } .wide td, .wide th { white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: color-mix(in srgb, var(--soft) 35%, transparent); padding: .6rem; margin: .2rem 0 .8rem; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_become_markup() {
        let nasty = "<script>alert('x')</script> & \"q\" \u{1}";
        let page = page(nasty, &table(&["a"], &[vec![nasty.to_string()]]));
        assert!(!page.contains("<script>") && !page.contains('\u{1}'));
        assert!(page.contains("&lt;script&gt;"));
        assert!(!page.contains("http"), "a report asks no network");
    }
}

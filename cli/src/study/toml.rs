//! Reading a TOML file of people's wishes: an unknown key is an error with the nearest name, never ignored.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::bad_input;
use crate::run::config::nearest;

/// Longer files are something else.
const MOST_BYTES: u64 = 1 << 20;

/// Reads a file.
///
/// # Errors
/// Names the line, what was found there and what was expected.
pub fn load<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let name = path.display();
    let meta = std::fs::metadata(path).map_err(|e| bad_input(format!("{name}: {e}")))?;
    if !meta.is_file() || meta.len() > MOST_BYTES {
        return Err(bad_input(format!("{name}: expected a TOML file of at most 1 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad_input(format!("{name}: {e}")))?;
    parse(&name.to_string(), &text)
}

/// Reads text; `name` is how messages call it.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> anyhow::Result<T> {
    ::toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            let before = text.as_bytes().iter().take(span.start);
            format!(" line {}", 1 + before.filter(|byte| **byte == b'\n').count())
        });
        bad_input(format!("{name}{}: {}", line.unwrap_or_default(), friendly(error.message())))
    })
}

/// serde's words for an unknown key, as a person would say it.
fn friendly(message: &str) -> String {
    let found = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once("`, expected "))
        .map(|(key, known)| (key, "key", known))
        .or_else(|| {
            let rest = message.strip_prefix("unknown variant `")?;
            rest.split_once("`, expected ").map(|(word, known)| (word, "word", known))
        });
    let Some((key, what, known)) = found else {
        return message.trim().replace('\n', " ");
    };
    let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let hint = nearest(key, names.iter().copied());
    let hint = hint.map_or(String::new(), |near| format!("did you mean {near}? "));
    format!("there is no {what} {key:?} here; {hint}Known: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wish {
        #[serde(default)]
        model: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Prompt,
        Lora,
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let message = |text: &str| parse::<Wish>("W.toml", text).expect_err(text).to_string();
        let found = message("model = \"m\"\nmodle = 3\n");
        assert!(
            found.contains("W.toml line 2") && found.contains("did you mean model?"),
            "{found}"
        );
        let found = message("[[inner]]\nkind = \"promt\"\n");
        assert!(found.contains("did you mean prompt?"), "{found}");
        let found = message("[[inner]]\nkind = \"lora\"\nkinds = 1\n");
        assert!(found.contains("did you mean kind?"), "{found}");
        assert!(message("model = \n").contains("line 1"));
        let good: Wish =
            parse("W.toml", "model = \"m\"\n[[inner]]\nkind = \"prompt\"").expect("it");
        assert!(good.model == "m" && matches!(good.inner[0].kind, Kind::Prompt));
        assert!(matches!(
            parse::<Wish>("W", "inner = [{kind = \"lora\"}]").expect("it").inner[0].kind,
            Kind::Lora
        ));
    }
}

//! A command as a person would type it, so that what an app does can be repeated in a terminal.

use std::path::PathBuf;

use super::config::Key;

/// `core-cli COMMAND --key value …` for flags in the order given.
pub fn arguments(command: &str, flags: &[(String, String)]) -> Vec<String> {
    let mut list = vec![command.to_string()];
    for (key, value) in flags {
        let name = Key::find(key).map_or_else(|| key.replace('_', "-"), Key::flag);
        list.push(format!("--{name}"));
        list.push(value.clone());
    }
    list
}

/// The program as it was called, so that what it prints can be typed again: README's way to call it is another
/// one than that of an installed program.
pub fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let ours = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "core-cli");
    called.filter(ours).map_or_else(|| "core-cli".to_string(), |path| path.display().to_string())
}

/// The arguments as one line for a shell, quoted where that is needed.
pub fn line(program: &str, arguments: &[String]) -> String {
    let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// What is not plainly harmless stands in quotes: single ones, as POSIX has them, or on Windows double ones, which
/// its shells share, and where a path's backslashes are harmless.
fn quoted(word: &str) -> String {
    let harmless = if cfg!(windows) { "-_./:=+,@\\" } else { "-_./:=+,@%" };
    let plain = |c: char| c.is_ascii_alphanumeric() || harmless.contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    if cfg!(windows) {
        return format!("\"{}\"", word.replace('"', "\\\""));
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_the_line_as_it_was_meant() -> std::io::Result<()> {
        let flags = [
            ("data", "it's a file; $HOME `x` \"y\".csv"),
            ("columns", "prompt=the question"),
            ("lr", "2e-3"),
            ("out", ""),
        ];
        let flags: Vec<(String, String)> =
            flags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let list = arguments("train", &flags);
        let script = line("printf", &[vec!["%s\\n".to_string()], list.clone()].concat());
        let output = std::process::Command::new("sh").args(["-c", &script]).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).to_string();
        assert_eq!(printed.lines().collect::<Vec<_>>(), list);
        Ok(())
    }
}

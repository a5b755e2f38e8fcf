//! One question to an endpoint that speaks OpenAI's protocol, over plain HTTP: what llama.cpp's, vLLM's and
//! other servers on the own machine or network offer. There is no encryption here, so no key is ever sent.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::bad_input;

/// Longest reply.
const MOST_BYTES: u64 = 16 << 20;

/// Where to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    host: String,
    path: String,
    /// The model's name there.
    pub model: String,
    /// The longest wait for a connection and for each piece of a reply.
    pub patience: Duration,
}

impl Endpoint {
    /// From `http://HOST:PORT/v1`.
    pub fn new(url: &str, model: &str, patience: Duration) -> anyhow::Result<Endpoint> {
        if url.contains('@') {
            // Not repeated here: messages and records are read by others.
            return Err(bad_input(
                "the endpoint's address holds a name or password (before an @). None is ever sent, since there is \
                 no encryption here: give the address without it",
            ));
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(bad_input(format!(
                "{url}: only plain http:// endpoints can be asked, such as a server on this machine \
                 (http://127.0.0.1:8080/v1)"
            )));
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, "v1"));
        if host.is_empty()
            || host.contains(char::is_whitespace)
            || path.contains(char::is_whitespace)
        {
            return Err(bad_input(format!("{url}: no address; expected http://HOST:PORT/v1")));
        }
        let host = if host.contains(':') { host.to_string() } else { format!("{host}:80") };
        let path = format!("/{}/chat/completions", path.trim_matches('/'));
        Ok(Endpoint { host, path, model: model.to_string(), patience })
    }

    /// The answer to a prompt.
    pub fn ask(&self, prompt: &str) -> io::Result<String> {
        let body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": 512,
        })
        .to_string();
        let mut stream = self.connect()?;
        write!(
            stream,
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.path,
            self.host,
            body.len()
        )?;
        stream.flush()?;
        let (status, text) = reply(&mut BufReader::new(stream.take(MOST_BYTES)))?;
        let bad = |what: String| io::Error::new(ErrorKind::InvalidData, what);
        if status != 200 {
            let said: String = text.chars().take(200).collect();
            return Err(bad(format!("it answered with status {status}: {}", said.trim())));
        }
        let value: Value =
            serde_json::from_str(&text).map_err(|e| bad(format!("its reply is no JSON ({e})")))?;
        value["choices"][0]["message"]["content"]
            .as_str()
            .map(str::to_string)
            .ok_or_else(|| bad("its reply has no choices[0].message.content".to_string()))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.patience) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.patience))?;
                    stream.set_write_timeout(Some(self.patience))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Status and body of a reply, whole or in chunks.
fn reply(from: &mut dyn BufRead) -> io::Result<(u16, String)> {
    let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_string());
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|s| s.parse().ok());
    let status = status.filter(|_| line.starts_with("HTTP/"));
    let status = status.ok_or_else(|| bad("what it sent is no HTTP reply"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(bad("its reply breaks off"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse::<u64>().ok(),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    match (chunked, length) {
        (true, _) => loop {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let digits = size.trim().split(';').next().unwrap_or_default();
            let size =
                u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk without length"))?;
            if size == 0 {
                break;
            }
            let read = from.take(size.min(MOST_BYTES)).read_to_end(&mut body)? as u64;
            let mut end = String::new();
            from.read_line(&mut end)?;
            if read < size {
                return Err(bad("its reply breaks off"));
            }
        },
        (false, Some(length)) => {
            let read = from.take(length.min(MOST_BYTES)).read_to_end(&mut body)? as u64;
            if read < length {
                return Err(bad("its reply breaks off"));
            }
        }
        (false, None) => _ = from.read_to_end(&mut body)?,
    }
    String::from_utf8(body).map(|text| (status, text)).map_err(|_| bad("its reply is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<(u16, String)> {
        reply(&mut text.as_bytes())
    }

    #[test]
    fn replies_come_whole_or_in_chunks() {
        let whole = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more").expect("it");
        assert_eq!(whole, (200, "hi".to_string()));
        let chunks = "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n";
        assert_eq!(read(chunks).expect("it"), (500, "hi!".to_string()));
        assert_eq!(read("HTTP/1.0 200\r\n\r\nall").expect("it").1, "all");
        for broken in [
            "",
            "hello",
            "HTTP/1.1 200\r\nContent-Length: 9\r\n\r\nhi",
            "HTTP/1.1 200\r\nA: b",
            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        ] {
            assert!(read(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn f79_a_password_in_an_address_is_refused_and_not_repeated() {
        for url in ["http://me:s3cret@host/v1", "https://s3cret@host"] {
            let error = Endpoint::new(url, "m", Duration::from_secs(1)).expect_err("refused");
            let text = error.to_string();
            assert!(text.contains("without it") && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn addresses() {
        let of = |url: &str| Endpoint::new(url, "m", Duration::from_secs(1));
        let found = of("http://127.0.0.1:8080/v1/").expect("it");
        assert_eq!(found.path, "/v1/chat/completions");
        assert_eq!(of("http://box").expect("it").host, "box:80");
        assert!(of("https://x/v1").expect_err("no TLS").to_string().contains("plain http://"));
        assert!(of("http:///v1").is_err());
    }
}

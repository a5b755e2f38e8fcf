//! TensorBoard's event files: records of a length, a checksum, a protocol buffer and another checksum. Only
//! what scalars need is written (the messages `Event` and `Summary` of TensorFlow's `event.proto` and
//! `summary.proto`).

use super::metrics::Line;

/// The bytes of an event file with every number of the metrics. `wall` is the time of the first event, in
/// seconds since 1970; later ones follow by the run's own clock.
pub fn event_file(lines: &[Line], wall: f64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut first = Vec::new();
    double(&mut first, 1, wall);
    bytes(&mut first, 3, b"brain.Event:2");
    record(&mut out, &first);
    for line in lines {
        let (step, elapsed, values) = match line {
            Line::Step(s) => {
                let values = vec![
                    ("train/loss", s.loss),
                    ("train/learning_rate", s.lr),
                    ("train/grad_norm", s.grad_norm),
                    ("train/tokens_per_s", s.tokens_per_s),
                ];
                (s.step, s.elapsed_s, values)
            }
            Line::Eval(e) => {
                let mut values =
                    vec![("eval/loss", e.eval_loss), ("eval/token_accuracy", e.token_accuracy)];
                values.extend(e.exact_match.map(|x| ("eval/exact_match", x)));
                (e.step, e.elapsed_s, values)
            }
            Line::Rewind(_) => continue,
        };
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut item = Vec::new();
            bytes(&mut item, 1, tag.as_bytes());
            key(&mut item, 2, 5);
            item.extend((value as f32).to_le_bytes());
            bytes(&mut summary, 1, &item);
        }
        let mut event = Vec::new();
        double(&mut event, 1, wall + elapsed);
        key(&mut event, 2, 0);
        varint(&mut event, step);
        bytes(&mut event, 5, &summary);
        record(&mut out, &event);
    }
    out
}

/// One record of the file.
fn record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked_crc(data).to_le_bytes());
}

fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn bytes(out: &mut Vec<u8>, field: u64, data: &[u8]) {
    key(out, field, 2);
    varint(out, data.len() as u64);
    out.extend(data);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

/// CRC-32C (Castagnoli, reflected), bit by bit: event files are small.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// TensorFlow's mask, so that the checksum of data that holds checksums stays one.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the CRC catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn varints_and_records_have_their_form() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
        let mut file = Vec::new();
        record(&mut file, b"abc");
        assert_eq!(file.len(), 8 + 4 + 3 + 4);
        assert_eq!(file[..8], 3u64.to_le_bytes());
    }
}

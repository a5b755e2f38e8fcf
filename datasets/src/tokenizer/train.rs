//! A vocabulary of one's own: byte-level BPE learned from texts.

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, DecoderWrapper, PreTokenizerWrapper, TokenizerBuilder};

use crate::error::{Error, Result};

/// What begins a text.
pub const BOS: &str = "<s>";
/// What ends it.
pub const EOS: &str = "</s>";

/// Smallest vocabulary: every byte and the two special tokens.
pub const LEAST: usize = 258;

/// Learns `tokens` tokens (the two special ones and all 256 bytes among them) from texts and gives the text
/// of a `tokenizer.json`. The same texts in the same order give the same vocabulary.
///
/// # Errors
/// [`Error::Setting`] for fewer than [`LEAST`] tokens, or if the library refuses.
pub fn train_bpe(texts: impl Iterator<Item = String> + Send, tokens: usize) -> Result<String> {
    if tokens < LEAST {
        return Err(Error::Setting(format!(
            "a vocabulary of {tokens} tokens is too small; every byte needs one, so at least {LEAST}"
        )));
    }
    let fail = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::Setting(format!("the vocabulary could not be learned: {e}"))
    };
    let special = |text: &str| AddedToken::from(text.to_string(), true);
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(tokens)
        .show_progress(false)
        .special_tokens(vec![special(BOS), special(EOS)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::default()
    .with_model(BPE::default())
    .with_normalizer(None)
    .with_pre_tokenizer(Some(bytes.into()))
    .with_post_processor(None)
    .with_decoder(Some(bytes.into()))
    .build()
    .map_err(fail)?;
    tokenizer.train(&mut trainer, texts).map_err(fail)?;
    tokenizer.to_string(false).map_err(fail)
}

//! Prompt → token ids, like transformers' `T5Tokenizer`: unigrams (Kudo, 2018), an end token, cut
//! or padded to a length.

use std::path::Path;

use tokenizers::TruncationParams;

use crate::error::Error;
use crate::folder::{bad, read_text};
use crate::tokenizer::Tokenizer;

/// The whole tokenizer; sentencepiece's own file is not read.
pub(crate) const FILE: &str = "tokenizer_2/tokenizer.json";

pub(crate) const PAD: &str = "<pad>";
pub(crate) const END: &str = "</s>";

/// Reads the tokenizer from a file of a model's folder.
pub(crate) fn load(
    folder: &Path,
    model: &str,
    file: &str,
    context: usize,
) -> Result<Tokenizer, Error> {
    let text = read_text(folder, model, file)?;
    let unusable = |e: tokenizers::Error| bad(model, file, "unusable").because(e);
    let mut inner: tokenizers::Tokenizer = text.parse().map_err(unusable)?;
    // The file may have the settings of its last use.
    inner.with_padding(None);
    let truncation = TruncationParams {
        max_length: context,
        ..TruncationParams::default()
    };
    inner.with_truncation(Some(truncation)).map_err(unusable)?;
    let id = |token: &str| {
        let missing = || bad(model, file, format!("has no token {token:?}"));
        inner.token_to_id(token).ok_or_else(missing)
    };
    let (pad, end) = (id(PAD)?, id(END)?);
    if inner.encode("", true).map_err(unusable)?.get_ids() != [end] {
        return Err(bad(
            model,
            file,
            format!("does not end a prompt with {END:?}"),
        ));
    }
    let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
    Ok(Tokenizer::new(inner, context, pad, largest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn tokenizer(context: usize) -> Tokenizer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/references/flux");
        load(folder.as_ref(), "flux", FILE, context).unwrap()
    }

    #[test]
    fn a_prompt_that_is_too_long_is_cut_before_its_end_token() {
        let prompt = "a red cat";
        let cut = |context: usize| tokenizer(context).truncation("prompt", prompt).unwrap();
        let whole = tokenizer(16).encode(prompt).unwrap();
        let tokens = whole.iter().position(|&id| id == 1).unwrap() + 1;
        assert_eq!(whole[tokens..], vec![0; 16 - tokens]);
        assert_eq!((cut(16), cut(tokens)), (None, None));
        let ids = tokenizer(4).encode(prompt).unwrap();
        assert_eq!(ids, [&whole[..3], &[1]].concat());
        let rest = cut(4).unwrap().rest;
        assert!(!rest.is_empty() && prompt.ends_with(&rest), "{rest:?}");
    }

    #[test]
    fn a_tokenizer_of_another_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::create_dir(folder.path().join("tokenizer_2")).unwrap();
        let known = include_str!("../tests/references/flux/tokenizer_2/tokenizer.json");
        let mut without_end: serde_json::Value = serde_json::from_str(known).unwrap();
        without_end["post_processor"] = serde_json::Value::Null;
        for (text, named) in [
            ("{}".to_owned(), "unusable"),
            (known.replace("\"</s>\"", "\"<end>\""), "</s>"),
            (known.replace("<pad>", "<fill>"), "<pad>"),
            (without_end.to_string(), "does not end"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = load(folder.path(), "flux", FILE, 8).err();
            let message = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(named), "{named}: {message:?}");
        }
    }
}

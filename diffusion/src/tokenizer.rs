//! Prompt → token ids, as transformers' `CLIPTokenizer` does it: lower-cased byte-level BPE with
//! `</w>` at the end of each word, between a start and an end token, cut or padded to the context.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, TruncationParams};

use crate::error::Error;
use crate::manifest::{Manifest, read_json};

const VOCABULARY: &str = "tokenizer/vocab.json";
const MERGES: &str = "tokenizer/merges.txt";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// What counts as one word before any merge; `CLIPTokenizer`'s own expression.
const WORD: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Tokens in a prompt, start and end included.
    context: usize,
    pad: i64,
    /// The largest id it can give.
    largest: i64,
}

impl Tokenizer {
    pub(crate) fn load(manifest: &Manifest) -> Result<Tokenizer, Error> {
        let vocabulary: HashMap<String, u32> =
            read_json(manifest.folder(), &manifest.name, VOCABULARY)?;
        let id = |token: &str| {
            let found = vocabulary.get(token).copied();
            found.ok_or_else(|| manifest.bad(VOCABULARY, format!("has no token {token:?}")))
        };
        let (start, end, pad) = (id(START)?, id(END)?, id(&manifest.tokenizer.pad)?);
        let largest = vocabulary.values().copied().max().unwrap_or(0);
        let merges = read_merges(&manifest.folder().join(MERGES))
            .map_err(|e| manifest.bad(MERGES, "cannot be read").because(e))?;
        let bpe = BPE::builder()
            .vocab_and_merges(
                vocabulary
                    .into_iter()
                    .collect::<tokenizers::models::bpe::Vocab>(),
                merges,
            )
            .unk_token(END.to_owned())
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_owned())
            .build()
            .map_err(|e| manifest.bad(MERGES, format!("does not fit {VOCABULARY}: {e}")))?;
        let inner = assemble(bpe, manifest, start, end)
            .map_err(|e| manifest.bad(VOCABULARY, "unusable").because(e))?;
        Ok(Tokenizer {
            inner,
            context: manifest.tokenizer.context,
            pad: i64::from(pad),
            largest: i64::from(largest),
        })
    }

    /// Token ids, as many as the context holds.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        let refuse =
            |e: tokenizers::Error| Error::invalid("prompt", format!("cannot be read: {e}"));
        let encoding = self.inner.encode(prompt, true).map_err(refuse)?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        ids.resize(self.context, self.pad);
        Ok(ids)
    }

    /// The largest id that [`Tokenizer::encode`] gives; the text encoder needs a row for it.
    pub(crate) fn largest_id(&self) -> i64 {
        self.largest
    }
}

fn assemble(
    bpe: BPE,
    manifest: &Manifest,
    start: u32,
    end: u32,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let space = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    tokenizer.with_normalizer(Some(Normalizers::new(vec![
        NFC.into(),
        space.into(),
        Lowercase.into(),
    ])));
    let words = Split::new(
        SplitPattern::Regex(WORD.to_owned()),
        SplitDelimiterBehavior::Removed,
        true,
    )?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
        words.into(),
        ByteLevel::default().add_prefix_space(false).into(),
    ])));
    let ends = RobertaProcessing::new((END.to_owned(), end), (START.to_owned(), start));
    tokenizer.with_post_processor(Some(ends.trim_offsets(false).add_prefix_space(false)));
    // Written in a prompt, these are themselves and not their letters; so it is with transformers.
    let special = [START, END, &manifest.tokenizer.pad]
        .map(|token| AddedToken::from(token, true).normalized(false));
    tokenizer.add_special_tokens(&special);
    let max_length = manifest.tokenizer.context;
    tokenizer.with_truncation(Some(TruncationParams {
        max_length,
        ..TruncationParams::default()
    }))?;
    Ok(tokenizer)
}

/// One merge a line, its two halves apart by a space; the first line may be a comment.
fn read_merges(path: &Path) -> std::io::Result<Merges> {
    let text = fs::read_to_string(path)?;
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
    let pairs = lines.map(|line| {
        line.split_once(' ')
            .map(|(left, right)| (left.to_owned(), right.to_owned()))
    });
    pairs
        .collect::<Option<Merges>>()
        .ok_or_else(|| std::io::Error::other("a line is not two words"))
}

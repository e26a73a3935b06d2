//! Prompt → token ids, like transformers' `CLIPTokenizer`: lower-cased byte-level BPE with `</w>`
//! at the end of each word, between a start and an end token, cut or padded to the context.

use std::collections::HashMap;

use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Encoding, SplitDelimiterBehavior, TruncationParams};

use crate::error::Error;
use crate::folder::{read_json, read_text};
use crate::manifest::{Manifest, TokenizerSpec};

const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const COMBINED: &str = "tokenizer.json";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// A word before any merge; `CLIPTokenizer`'s expression.
const WORD: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A prompt that exceeds the tokenizer's context, so that a part of it has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    /// The field of [`Request`](crate::Request).
    pub field: &'static str,
    /// Tokens in a prompt, including start and end.
    pub context: usize,
    /// The part without effect.
    pub rest: String,
}

impl Truncation {
    /// Returns the part of a prompt that its tokenizer cut.
    pub(crate) fn of(encoding: &Encoding, prompt: &str) -> Option<String> {
        let rest = encoding.get_overflowing().first()?;
        let special = rest.get_special_tokens_mask();
        let mut tokens = special.iter().zip(rest.get_offsets());
        let begin = tokens.find_map(|(special, (begin, _))| (*special == 0).then_some(*begin));
        let rest = begin.and_then(|begin| prompt.get(begin..));
        Some(rest.unwrap_or_default().to_owned())
    }
}

pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Tokens in a prompt, including start and end.
    context: usize,
    pad: i64,
    /// The largest token id.
    largest: i64,
}

impl Tokenizer {
    /// Reads a tokenizer from `folder`, a folder of the model's.
    pub(crate) fn load(
        manifest: &Manifest,
        folder: &str,
        spec: &TokenizerSpec,
    ) -> Result<Tokenizer, Error> {
        let Words {
            vocabulary,
            merges,
            files: [vocabulary_file, merges_file],
        } = Words::read(manifest, folder)?;
        let id = |token: &str| {
            let found = vocabulary.get(token).copied();
            found.ok_or_else(|| manifest.bad(&vocabulary_file, format!("has no token {token:?}")))
        };
        let (start, end, pad) = (id(START)?, id(END)?, id(&spec.pad)?);
        let largest = vocabulary.values().copied().max().unwrap_or(0);
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges)
            .unk_token(END.to_owned())
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_owned())
            .build()
            .map_err(|e| {
                manifest.bad(
                    &merges_file,
                    format!("merges do not fit the vocabulary: {e}"),
                )
            })?;
        let inner = assemble(bpe, spec, start, end)
            .map_err(|e| manifest.bad(&vocabulary_file, "unusable").because(e))?;
        Ok(Tokenizer::new(inner, spec.context, pad, largest))
    }

    /// `inner` cuts prompts to `context` tokens; `pad` fills shorter ones, and no id exceeds
    /// `largest`.
    pub(crate) fn new(
        inner: tokenizers::Tokenizer,
        context: usize,
        pad: u32,
        largest: u32,
    ) -> Tokenizer {
        Tokenizer {
            inner,
            context,
            pad: i64::from(pad),
            largest: i64::from(largest),
        }
    }

    /// Returns token ids, as many as the context.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        let encoding = self.inner.encode(prompt, true).map_err(refuse)?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        ids.resize(self.context, self.pad);
        Ok(ids)
    }

    /// Returns the truncation of a prompt that exceeds the context.
    pub(crate) fn truncation(
        &self,
        field: &'static str,
        prompt: &str,
    ) -> Result<Option<Truncation>, Error> {
        let encoding = self.inner.encode(prompt, true).map_err(refuse)?;
        Ok(Truncation::of(&encoding, prompt).map(|rest| Truncation {
            field,
            context: self.context,
            rest,
        }))
    }

    /// Returns the largest id of [`Tokenizer::encode`]; the text encoder needs a row for it.
    pub(crate) fn largest_id(&self) -> i64 {
        self.largest
    }
}

fn refuse(error: tokenizers::Error) -> Error {
    Error::invalid("prompt", format!("cannot be read: {error}"))
}

fn assemble(
    bpe: BPE,
    spec: &TokenizerSpec,
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
    // In a prompt these are tokens, not their letters, as with transformers.
    let special =
        [START, END, &spec.pad].map(|token| AddedToken::from(token, true).normalized(false));
    tokenizer.add_special_tokens(&special);
    let max_length = spec.context;
    tokenizer.with_truncation(Some(TruncationParams {
        max_length,
        ..TruncationParams::default()
    }))?;
    Ok(tokenizer)
}

/// The tokenizer's data: either of Hugging Face's two layouts.
struct Words {
    vocabulary: HashMap<String, u32>,
    merges: Merges,
    /// Files of the vocabulary and the merges.
    files: [String; 2],
}

/// The data in `tokenizer.json`; transformers 5 writes no other file.
#[derive(Deserialize)]
struct Combined {
    model: CombinedModel,
}

#[derive(Deserialize)]
struct CombinedModel {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl Words {
    fn read(manifest: &Manifest, tokenizer: &str) -> Result<Words, Error> {
        let (folder, model) = (manifest.folder(), &manifest.name);
        let [vocabulary, merges, combined] =
            [VOCABULARY, MERGES, COMBINED].map(|file| format!("{tokenizer}/{file}"));
        if !folder.join(&vocabulary).exists() && folder.join(&combined).exists() {
            let Combined {
                model: CombinedModel { vocab, merges },
            } = read_json(folder, model, &combined)?;
            let merges = merges.into_iter().map(|merge| match merge {
                Merge::Pair(left, right) => Some((left, right)),
                Merge::Line(line) => halves(&line),
            });
            let merges = merges.collect::<Option<Merges>>();
            let merges =
                merges.ok_or_else(|| manifest.bad(&combined, "a merge is not two words"))?;
            return Ok(Words {
                vocabulary: vocab,
                merges,
                files: [combined.clone(), combined],
            });
        }
        let (vocabulary_file, merges_file) = (vocabulary, merges);
        let vocabulary = read_json(folder, model, &vocabulary_file)?;
        let text = read_text(folder, model, &merges_file)?;
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
        let merges = lines.map(halves).collect::<Option<Merges>>();
        let merges = merges.ok_or_else(|| manifest.bad(&merges_file, "a line is not two words"))?;
        Ok(Words {
            vocabulary,
            merges,
            files: [vocabulary_file, merges_file],
        })
    }
}

fn halves(merge: &str) -> Option<(String, String)> {
    merge
        .split_once(' ')
        .map(|(left, right)| (left.to_owned(), right.to_owned()))
}

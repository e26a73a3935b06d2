//! The fields of an input that name files.

use serde_json::Value;

use super::source::Source;

/// A field of an input that may name a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileField {
    /// At the top level of the input. The file is passed in memory.
    InMemory {
        /// The field's name.
        name: &'static str,
        /// Size limit of the file, bytes.
        max_bytes: usize,
    },
    /// In each object of a list. URLs and references are fetched to the disk; other texts are names
    /// that the engine knows.
    OnDisk {
        /// Name of the list, at the top level of the input.
        list: &'static str,
        /// The field's name in the list's objects.
        name: &'static str,
        /// Size limit of a file, bytes.
        max_bytes: usize,
    },
}

/// A text of the input at a [`FileField`].
pub(super) struct Named<'a> {
    pub(super) field: FileField,
    /// Keys and indices from the input's top level.
    pub(super) path: Vec<String>,
    pub(super) text: &'a str,
}

impl FileField {
    /// Returns the texts at this field. The engine rejects values that are not strings.
    pub(super) fn named(self, input: &Value) -> Vec<Named<'_>> {
        match self {
            Self::InMemory { name, .. } => {
                let text = input.get(name).and_then(Value::as_str);
                let named = text.map(|text| Named {
                    field: self,
                    path: vec![name.to_owned()],
                    text,
                });
                named.into_iter().collect()
            }
            Self::OnDisk { list, name, .. } => {
                let items = input.get(list).and_then(Value::as_array);
                let items = items.into_iter().flatten().enumerate();
                let named = items.filter_map(|(index, item)| {
                    let text = item.get(name)?.as_str()?;
                    Source::read(text).ok()?;
                    Some(Named {
                        field: self,
                        path: vec![list.to_owned(), index.to_string(), name.to_owned()],
                        text,
                    })
                });
                named.collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_are_named_at_the_top_level_and_in_lists() {
        let picture = FileField::InMemory {
            name: "image_url",
            max_bytes: 1,
        };
        let lora = FileField::OnDisk {
            list: "loras",
            name: "path",
            max_bytes: 1,
        };
        let input = json!({
            "image_url": "https://a.example/a.png",
            "loras": [{"path": "comic"}, {"path": "https://a.example/b"}, {"scale": 1}, 7],
        });
        let named = |field: FileField, input: &Value| -> Vec<(String, String)> {
            let named = field.named(input).into_iter();
            let named = named.map(|named| (named.path.join("."), named.text.to_owned()));
            named.collect()
        };
        let expected = |path: &str, text: &str| vec![(path.to_owned(), text.to_owned())];
        let at = expected("image_url", "https://a.example/a.png");
        assert_eq!(named(picture, &input), at);
        let at = expected("loras.1.path", "https://a.example/b");
        assert_eq!(named(lora, &input), at, "a name is the engine's");
        for input in [json!({"image_url": 7, "loras": {}}), json!(null)] {
            assert!(named(picture, &input).is_empty() && named(lora, &input).is_empty());
        }
    }
}

//! Harmless file names and content types.
//!
//! A file's content type follows from its extension, and only those below are known: a browser
//! receives any other file as bytes to save, so an uploaded page is never displayed.

use super::key::is_harmless;

/// Maximum length of a name, bytes.
const MAX_BYTES: usize = 100;

/// Name of a file without one.
const NAMELESS: &str = "file";

/// A kind of file.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Extensions of its names, the preferred one first.
    extensions: &'static [&'static str],
    /// Content type.
    pub content_type: &'static str,
    /// Whether a browser may display it: it cannot contain scripts.
    pub may_be_shown: bool,
}

const fn picture(extensions: &'static [&'static str], content_type: &'static str) -> Kind {
    Kind {
        extensions,
        content_type,
        may_be_shown: true,
    }
}

const fn data(extensions: &'static [&'static str], content_type: &'static str) -> Kind {
    Kind {
        extensions,
        content_type,
        may_be_shown: false,
    }
}

static KINDS: [Kind; 9] = [
    picture(&["png"], "image/png"),
    picture(&["jpg", "jpeg"], "image/jpeg"),
    picture(&["webp"], "image/webp"),
    picture(&["gif"], "image/gif"),
    picture(&["avif"], "image/avif"),
    data(&["json"], "application/json"),
    data(&["mp4"], "video/mp4"),
    data(&["wav"], "audio/wav"),
    data(&["mp3"], "audio/mpeg"),
];

/// Any other file.
static BYTES: Kind = data(&[], "application/octet-stream");

/// Returns the kind of a file by its name.
pub fn kind(name: &str) -> &'static Kind {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let has_extension = |kind: &&Kind| {
        let mut extensions = kind.extensions.iter();
        extensions.any(|known| known.eq_ignore_ascii_case(extension))
    };
    KINDS.iter().find(has_extension).unwrap_or(&BYTES)
}

/// Returns a name that is safe in paths, URLs and headers: the end of `name`, without folders, with
/// the extension of the content type, if it is known.
pub fn safe(name: &str, content_type: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let harmless: String = name
        .chars()
        .map(|c| match u8::try_from(c) {
            Ok(byte) if is_harmless(byte) => c,
            _ => '_',
        })
        .collect();
    // Only ASCII, so any byte is a character boundary.
    let end = &harmless[harmless.len().saturating_sub(MAX_BYTES)..];
    let name = match end.trim_start_matches('.') {
        "" => NAMELESS,
        name => name,
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let mut kinds = KINDS.iter();
    match kinds.find(|kind| kind.content_type.eq_ignore_ascii_case(essence)) {
        Some(given) if kind(name) != given => format!("{name}.{}", given.extensions[0]),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileKey;

    #[test]
    fn hostile_names_become_harmless_ones() {
        for (given, kept) in [
            ("cat.png", "cat.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\cat.png", "cat.png"),
            ("..", "file"),
            ("", "file"),
            ("a/", "file"),
            (".htaccess", "htaccess"),
            ("a\r\nSet-Cookie: x=1.png", "a__Set-Cookie__x_1.png"),
            ("a\0b.png", "a_b.png"),
            ("schön 猫.png", "sch_n__.png"),
            ("%2e%2e%2f.png", "_2e_2e_2f.png"),
        ] {
            let name = safe(given, "");
            assert_eq!(name, kept, "{given}");
            assert!(FileKey::parse(&format!("uploads/1/{name}")).is_some());
        }
        let long = safe(&format!("{}.png", "x".repeat(10_000)), "image/png");
        assert!(long.len() <= MAX_BYTES && long.ends_with(".png"), "{long}");
    }

    #[test]
    fn the_extension_matches_the_content_type() {
        assert_eq!(safe("upload.bin", "image/png"), "upload.bin.png");
        assert_eq!(safe("a.JPG", "image/jpeg; q=1"), "a.JPG");
        assert_eq!(safe("", "image/webp"), "file.webp");
        assert_eq!(safe("a.png", "IMAGE/JPEG"), "a.png.jpg");
        assert_eq!(safe("page.html", "text/html"), "page.html");
    }

    #[test]
    fn executable_files_have_no_type() {
        for name in [
            "a.html",
            "a.svg",
            "a.xml",
            "a.js",
            "a.png.html",
            "png",
            "a.",
        ] {
            assert_eq!(
                kind(name).content_type,
                "application/octet-stream",
                "{name}"
            );
            assert!(!kind(name).may_be_shown, "{name}");
        }
        assert!(kind("a.PNG").may_be_shown);
        assert_eq!(kind("a.json").content_type, "application/json");
    }
}

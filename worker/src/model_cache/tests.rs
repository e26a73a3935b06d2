//! Loads, evictions and memory of the model cache.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

const OUT_OF_MEMORY: &str = "out of memory";

/// Models named by their size; the files of `5-really-9` grow from 5 to 9 before a load;
/// `broken…` fails to load.
#[derive(Default)]
struct Sizes {
    loads: Vec<String>,
    version: Cell<u32>,
    /// Loads for which the device has no memory.
    short_loads: u32,
    /// Moves from RAM for which it has none.
    short_moves: u32,
    releases: Cell<u32>,
}

impl Loader for Sizes {
    type Model = String;
    type Error = String;
    type Context<'a> = ();
    type Version = u32;

    fn version(&self, _: &str) -> Result<u32, String> {
        Ok(self.version.get())
    }

    fn size_bytes(&self, name: &str) -> Result<u64, String> {
        let digits = name.trim_start_matches("broken").split('-').next();
        digits
            .unwrap_or_default()
            .parse()
            .map_err(|_| format!("unknown {name}"))
    }

    fn load(&mut self, name: &str, (): ()) -> Result<Loaded<String>, String> {
        self.loads.push(name.to_owned());
        if name.starts_with("broken") {
            return Err(format!("{name} is damaged"));
        }
        if self.short_loads > 0 {
            self.short_loads -= 1;
            return Err(OUT_OF_MEMORY.to_owned());
        }
        let bytes = match name.split_once("-really-") {
            Some((_, real)) => real.parse().unwrap(),
            None => self.size_bytes(name)?,
        };
        Ok(Loaded {
            model: name.to_owned(),
            bytes,
        })
    }

    fn out_of_memory(error: &String) -> Option<&str> {
        Some(error.as_str()).filter(|error| *error == OUT_OF_MEMORY)
    }

    fn release_unused_memory(&self) {
        self.releases.set(self.releases.get() + 1);
    }

    fn to_device(&mut self, _: &mut String, (): ()) -> Result<(), String> {
        match self.short_moves {
            0 => Ok(()),
            _ => {
                self.short_moves -= 1;
                Err(OUT_OF_MEMORY.to_owned())
            }
        }
    }
}

fn cache() -> ModelCache<Sizes> {
    with_ram(0)
}

/// A device for 10 bytes.
fn with_ram(ram_bytes: u64) -> ModelCache<Sizes> {
    let device_bytes = 10;
    let budget = Budget {
        device_bytes,
        ram_bytes,
    };
    ModelCache::new(Sizes::default(), budget)
}

#[test]
fn a_hit_loads_nothing_and_renews() {
    let mut cache = cache();
    for name in ["3-a", "3-b", "3-c", "3-a"] {
        assert_eq!(cache.get(name, ()).unwrap(), name);
    }
    assert_eq!(cache.names(), ["3-b", "3-c", "3-a"]);
    assert_eq!(cache.loader().loads.len(), 3);
    cache.get("3-d", ()).unwrap();
    assert_eq!(cache.names(), ["3-c", "3-a", "3-d"]);
    assert_eq!(cache.bytes(), 9);
}

#[test]
fn a_model_over_the_budget_is_refused_by_name_and_nothing_is_dropped() {
    let mut cache = cache();
    cache.get("3-a", ()).unwrap();
    let Err(Error::TooLarge(refused)) = cache.get("11", ()) else {
        panic!("it was loaded");
    };
    assert_eq!(
        refused.to_string(),
        "model '11' does not fit: it needs 11 bytes and the memory budget is 10 bytes"
    );
    assert_eq!(cache.names(), ["3-a"]);
    assert_eq!(cache.loader().loads, ["3-a"]);
}

#[test]
fn a_model_that_grew_before_its_load_counts_as_it_is() {
    let mut cache = cache();
    cache.get("3-a", ()).unwrap();
    cache.get("5-really-9", ()).unwrap();
    assert_eq!(cache.names(), ["5-really-9"]);
    assert!(matches!(
        cache.get("5-really-12", ()),
        Err(Error::TooLarge(_))
    ));
    assert!(cache.bytes() <= 10);
}

#[test]
fn a_model_whose_files_changed_is_loaded_again() {
    let mut cache = cache();
    cache.get("3-a", ()).unwrap();
    cache.get("3-b", ()).unwrap();
    cache.drop_if_changed("3-a");
    assert!(cache.contains("3-a"));
    cache.loader().version.set(1);
    cache.drop_if_changed("3-a");
    assert_eq!(cache.names(), ["3-b"]);
    cache.get("3-a", ()).unwrap();
    cache.drop_if_changed("3-a");
    assert_eq!(cache.loader().loads, ["3-a", "3-b", "3-a"]);
}

/// Draws with a model, on a device that has memory for so many models beside the picture.
fn draw(cache: &mut ModelCache<Sizes>, name: &str, room: usize) -> Result<usize, Error<String>> {
    let mut attempts = 0;
    cache.with_room(name, |cache| {
        attempts += 1;
        cache.get(name, ())?;
        match cache.names().len() <= room {
            true => Ok(attempts),
            false => Err(Error::Load(OUT_OF_MEMORY.to_owned())),
        }
    })
}

#[test]
fn a_picture_that_does_not_fit_beside_the_models_evicts_no_more_than_it_takes() {
    let mut cache = cache();
    for name in ["3-a", "3-b", "3-c"] {
        cache.get(name, ()).unwrap();
    }
    assert_eq!(draw(&mut cache, "3-b", 3), Ok(1));
    assert_eq!(cache.loader().releases.get(), 0);
    assert_eq!(draw(&mut cache, "3-b", 2), Ok(3));
    assert_eq!(cache.names(), ["3-c", "3-b"]);
    assert_eq!(draw(&mut cache, "3-b", 1), Ok(3));
    assert_eq!(cache.names(), ["3-b"]);
    assert_eq!(cache.loader().releases.get(), 4);
    assert_eq!(cache.loader().loads.len(), 3, "it stayed loaded");
}

#[test]
fn memory_that_nothing_uses_is_released_before_a_model_is_evicted() {
    let mut cache = cache();
    cache.get("3-a", ()).unwrap();
    cache.loader.short_loads = 1;
    assert_eq!(draw(&mut cache, "3-b", 9), Ok(2));
    assert_eq!(cache.names(), ["3-a", "3-b"]);
}

#[test]
fn a_model_that_does_not_fit_on_the_device_is_loaded_without_the_oldest() {
    let mut cache = cache();
    cache.get("3-a", ()).unwrap();
    cache.get("3-b", ()).unwrap();
    cache.loader.short_loads = 2;
    assert_eq!(draw(&mut cache, "3-c", 9), Ok(3));
    assert_eq!(cache.names(), ["3-b", "3-c"]);
}

#[test]
fn a_picture_that_exceeds_the_device_alone_leaves_its_model_loaded() {
    let mut cache = cache();
    cache.get("3-a", ()).unwrap();
    let short = Err(Error::ExceedsDevice(OUT_OF_MEMORY.to_owned()));
    assert_eq!(draw(&mut cache, "3-b", 0), short);
    assert_eq!(cache.names(), ["3-b"]);
    assert_eq!(cache.loader().loads, ["3-a", "3-b"]);
    assert_eq!(cache.loader().releases.get(), 3);
}

#[test]
fn a_load_that_the_slots_promise_room_for_evicts_nothing() {
    let mut cache = cache();
    assert_eq!(cache.slots([3, 4, 4]), 2);
    cache.get("4-a", ()).unwrap();
    assert_eq!(cache.slots([3, 4]), 2);
    cache.get("4-b", ()).unwrap();
    assert_eq!(cache.slots([3]), 2);
    assert_eq!(cache.names().len(), 2);
}

#[test]
fn other_failures_are_not_tried_again_and_drop_nothing() {
    let mut cache = cache();
    cache.get("3-a", ()).unwrap();
    let broken = draw(&mut cache, "broken5", 9);
    assert_eq!(broken, Err(Error::Load("broken5 is damaged".to_owned())));
    assert_eq!(cache.names(), ["3-a"]);
    assert_eq!(cache.loader().loads, ["3-a", "broken5"]);
}

#[test]
fn a_failed_load_leaves_the_others() {
    let mut cache = cache();
    cache.get("5-a", ()).unwrap();
    assert_eq!(
        cache.get("broken5", ()),
        Err(Error::Load("broken5 is damaged".to_owned()))
    );
    assert!(matches!(cache.get("nonsense", ()), Err(Error::Load(_))));
    assert_eq!(cache.names(), ["5-a"]);
}

#[test]
fn an_evicted_model_returns_from_ram_without_being_read() {
    let mut cache = with_ram(8);
    for name in ["4-a", "4-b", "4-c", "4-d"] {
        cache.get(name, ()).unwrap();
    }
    assert_eq!(cache.names(), ["4-c", "4-d"]);
    assert_eq!(cache.ram_names(), ["4-a", "4-b"]);
    assert_eq!(cache.tier("4-a"), Tier::Ram);
    cache.get("4-a", ()).unwrap();
    assert_eq!(cache.names(), ["4-d", "4-a"]);
    assert_eq!(cache.ram_names(), ["4-b", "4-c"], "it left its place");
    assert_eq!(cache.loader().loads.len(), 4);
    // The least recently used one is dropped.
    cache.get("4-e", ()).unwrap();
    assert_eq!(cache.ram_names(), ["4-c", "4-d"]);
    assert_eq!(cache.tier("4-b"), Tier::Disk);
}

#[test]
fn a_model_that_exceeds_the_budget_of_ram_drops_no_other() {
    let mut cache = with_ram(4);
    for name in ["3-a", "8", "9"] {
        cache.get(name, ()).unwrap();
    }
    assert_eq!(cache.ram_names(), ["3-a"]);
    assert_eq!((cache.bytes(), cache.ram_bytes()), (9, 3));
}

#[test]
fn a_model_whose_files_changed_leaves_ram_too() {
    let mut cache = with_ram(10);
    cache.get("6-a", ()).unwrap();
    cache.get("6-b", ()).unwrap();
    cache.loader().version.set(1);
    cache.drop_if_changed("6-a");
    assert_eq!(cache.tier("6-a"), Tier::Disk);
    cache.get("6-a", ()).unwrap();
    assert_eq!(cache.loader().loads, ["6-a", "6-b", "6-a"]);
}

#[test]
fn a_model_that_does_not_fit_on_the_device_stays_in_ram_for_the_next_attempt() {
    let mut cache = with_ram(20);
    for name in ["3-a", "3-b", "3-c", "3-d"] {
        cache.get(name, ()).unwrap();
    }
    assert_eq!(cache.ram_names(), ["3-a"]);
    cache.loader.short_moves = 2;
    assert_eq!(draw(&mut cache, "3-a", 9), Ok(3));
    assert_eq!(cache.names(), ["3-d", "3-a"]);
    assert_eq!(
        cache.ram_names(),
        ["3-b", "3-c"],
        "one for its size, one for the attempt"
    );
    assert_eq!(cache.loader().loads.len(), 4);
}

#[test]
fn a_pinned_model_stays_on_the_device_and_is_evicted_last_once_unpinned() {
    let mut cache = cache();
    cache.pin("4-a");
    for name in ["4-a", "4-b", "4-c"] {
        cache.get(name, ()).unwrap();
    }
    assert_eq!(cache.names(), ["4-c", "4-a"]);
    let Err(Error::TooLarge(refused)) = cache.get("7", ()) else {
        panic!("it was loaded");
    };
    assert!(
        refused
            .to_string()
            .ends_with("of which pinned models occupy 4")
    );
    cache.unpin("4-a");
    cache.get("7", ()).unwrap();
    assert_eq!(cache.names(), ["7"]);
}

#[test]
fn an_unloaded_model_leaves_both_tiers() {
    let mut cache = with_ram(10);
    cache.get("6-a", ()).unwrap();
    cache.get("6-b", ()).unwrap();
    cache.unload("6-a");
    cache.unload("6-b");
    assert_eq!((cache.bytes(), cache.ram_bytes()), (0, 0));
}

/// What a test does to a cache.
#[derive(Debug, Clone)]
enum Action {
    Get(u64, char),
    Unload(u64, char),
    Pin(u64, char),
    Unpin(u64, char),
    ShortMove,
}

fn actions() -> impl Strategy<Value = Action> {
    let model = (1u64..12, prop::char::range('a', 'c'));
    prop_oneof![
        8 => model.clone().prop_map(|(bytes, name)| Action::Get(bytes, name)),
        1 => model.clone().prop_map(|(bytes, name)| Action::Unload(bytes, name)),
        1 => model.clone().prop_map(|(bytes, name)| Action::Pin(bytes, name)),
        1 => model.prop_map(|(bytes, name)| Action::Unpin(bytes, name)),
        1 => Just(Action::ShortMove),
    ]
}

proptest! {
    #[test]
    fn both_budgets_hold_and_a_model_is_in_one_tier_and_read_only_from_disk(
        actions in prop::collection::vec(actions(), 0..60), ram_bytes in 0u64..30,
    ) {
        let mut cache = with_ram(ram_bytes);
        for action in actions {
            match action {
                Action::Get(bytes, name) => {
                    let name = format!("{bytes}-{name}");
                    let tier = cache.tier(&name);
                    let loads = cache.loader().loads.len();
                    let held = draw(&mut cache, &name, 99).is_ok();
                    let is_read = cache.loader().loads.len() > loads;
                    prop_assert!(!is_read || tier == Tier::Disk, "{} was in {:?}", name, tier);
                    prop_assert!(!held || cache.contains(&name));
                }
                Action::Unload(bytes, name) => cache.unload(&format!("{bytes}-{name}")),
                Action::Pin(bytes, name) => cache.pin(&format!("{bytes}-{name}")),
                Action::Unpin(bytes, name) => cache.unpin(&format!("{bytes}-{name}")),
                Action::ShortMove => cache.loader.short_moves = 1,
            }
            prop_assert!(cache.bytes() <= 10 && cache.ram_bytes() <= ram_bytes);
            let on_device = cache.names();
            prop_assert!(cache.ram_names().iter().all(|name| !on_device.contains(name)));
        }
    }
}

//! Lists of what users can name: algorithms, schedulers, policies.

use std::fmt::Display;

/// What bears this name in a list of all that there are.
///
/// # Errors
/// Nothing does; the error, in words, names those that there are. `wanted` is what was looked for: "scheduler 'x'".
pub fn find<T: Copy>(list: &[(&str, T)], name: &str, wanted: impl Display) -> Result<T, String> {
    list.iter().find(|(known, _)| *known == name).map(|(_, found)| *found).ok_or_else(|| {
        let names: Vec<&str> = list.iter().map(|(name, _)| *name).collect();
        format!("there is no {wanted}; there are: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_or_all_are_told() {
        let list = &[("one", 1), ("two", 2)];
        assert_eq!(find(list, "two", "number"), Ok(2));
        let error = find(list, "three", "number 'three'").expect_err("it is in no list");
        assert_eq!(error, "there is no number 'three'; there are: one, two");
    }
}

//! Workflows to run: which step waits for which.

/// The steps before each step, by index.
pub(crate) type Steps = Vec<Vec<usize>>;

/// A shape by its name.
///
/// # Errors
/// The names there are.
pub(crate) fn steps(name: &str) -> Result<Steps, String> {
    match name {
        "one" => Ok(vec![vec![]]),
        // One after the other.
        "chain5" => Ok(chain(5)),
        // 1, then 3, then 3, then 1.
        "dia8" => Ok(vec![
            vec![],
            vec![0],
            vec![0],
            vec![0],
            vec![1],
            vec![2],
            vec![3],
            vec![4, 5, 6],
        ]),
        _ => match name.strip_prefix("random").map(str::parse) {
            Some(Ok(steps @ 1..=100)) => Ok(random(steps)),
            _ => Err(format!(
                "there is no shape {name}: one, chain5, dia8, or random and a number of steps up to 100, such as random20"
            )),
        },
    }
}

fn chain(steps: usize) -> Steps {
    (0..steps)
        .map(|step| step.checked_sub(1).into_iter().collect())
        .collect()
}

/// Each step waits for up to three of those before it. The same number gives the same shape.
fn random(steps: usize) -> Steps {
    let mut state = steps as u64;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or_default() % below
    };
    (0..steps)
        .map(|step| {
            let number = draw(4).min(step);
            let mut before: Vec<usize> = (0..number).map(|_| draw(step)).collect();
            before.sort_unstable();
            before.dedup();
            before
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_waits_for_itself_or_a_later_one() {
        for name in ["one", "chain5", "dia8", "random1", "random100"] {
            let steps = steps(name).expect("a shape");
            for (index, before) in steps.iter().enumerate() {
                assert!(before.iter().all(|other| *other < index), "{name}: {steps:?}");
            }
        }
        assert_eq!(steps("chain5").expect("a shape")[4], [3]);
        assert!(steps("random0").is_err());
        assert!(steps("dia9").is_err());
    }
}

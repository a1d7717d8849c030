//! Which step waits for which.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{PlanStrategy, WorkflowStep};

/// Which step waits for which, by step number. Without cycles, once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Step to the steps it waits for, ascending.
    dependencies: BTreeMap<i32, BTreeSet<i32>>,
    /// Step to the steps that wait for it.
    dependents: BTreeMap<i32, BTreeSet<i32>>,
    /// All steps, each after those it waits for.
    order: Vec<i32>,
}

/// What is wrong with the numbers, names and dependencies of a workflow. `index` counts from 0, as field paths do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two steps have one number.
    #[error("steps[{index}] ({name:?}): stepNumber = {number}: steps[{first}] has this number")]
    DuplicateNumber {
        /// Place of the second step.
        index: usize,
        /// Its name.
        name: String,
        /// The number.
        number: i32,
        /// Place of the first step.
        first: usize,
    },
    /// Two steps have one name.
    #[error("steps[{index}] ({name:?}): name: steps[{first}] has this name")]
    DuplicateName {
        /// Place of the second step.
        index: usize,
        /// The name.
        name: String,
        /// Place of the first step.
        first: usize,
    },
    /// `dependsOn` names a number that no step has.
    #[error("steps[{index}] ({name:?}): dependsOn[{entry}] = {number}: no step has this number")]
    UnknownNumber {
        /// Place of the step.
        index: usize,
        /// Its name.
        name: String,
        /// Place in dependsOn.
        entry: usize,
        /// The number.
        number: i32,
    },
    /// `dependencies` names a step that does not exist.
    #[error("dependencies[{step:?}]: no step has this name")]
    UnknownStep {
        /// The key.
        step: String,
    },
    /// `dependencies` lets a step wait for one that does not exist.
    #[error("dependencies[{step:?}][{entry}] = {name:?}: no step has this name")]
    UnknownName {
        /// The key.
        step: String,
        /// Place in its list.
        entry: usize,
        /// The name.
        name: String,
    },
    /// A step waits for itself by `dependsOn`.
    #[error("steps[{index}] ({name:?}): dependsOn[{entry}] = {number}: a step can't wait for itself")]
    SelfNumber {
        /// Place of the step.
        index: usize,
        /// Its name.
        name: String,
        /// Place in dependsOn.
        entry: usize,
        /// Its number.
        number: i32,
    },
    /// A step waits for itself by `dependencies`.
    #[error("dependencies[{step:?}][{entry}]: a step can't wait for itself")]
    SelfName {
        /// The key.
        step: String,
        /// Place in its list.
        entry: usize,
    },
    /// Steps wait for each other in a circle: each for the next one, the last for the first. Begins with the smallest.
    #[error("steps: they wait for each other in a circle: {}", circle(.0))]
    Cycle(Vec<i32>),
}

impl GraphError {
    /// The field within the definition that it speaks of.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::DuplicateNumber { index, .. } => format!("steps[{index}].stepNumber"),
            Self::DuplicateName { index, .. } => format!("steps[{index}].name"),
            Self::UnknownNumber { index, entry, .. } | Self::SelfNumber { index, entry, .. } => {
                format!("steps[{index}].dependsOn[{entry}]")
            }
            Self::UnknownStep { step } => format!("dependencies[{step}]"),
            Self::UnknownName { step, entry, .. } | Self::SelfName { step, entry } => {
                format!("dependencies[{step}][{entry}]")
            }
            Self::Cycle(_) => "steps".to_owned(),
        }
    }
}

fn circle(numbers: &[i32]) -> String {
    let mut words: Vec<String> = numbers.iter().map(i32::to_string).collect();
    words.extend(words.first().cloned());
    words.join(" -> ")
}

impl Graph {
    /// Merges `dependsOn` with `dependencies` (step name to step names).
    ///
    /// # Errors
    /// All that is wrong, in the order of the spec; cycles last.
    pub fn new(
        steps: &[WorkflowStep],
        dependencies: Option<&BTreeMap<String, Vec<String>>>,
    ) -> Result<Graph, Vec<GraphError>> {
        let mut errors = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (index, step) in steps.iter().enumerate() {
            let (name, number) = (step.name.clone(), step.step_number);
            if let Some(&first) = numbers.get(&number) {
                errors.push(GraphError::DuplicateNumber {
                    index,
                    name: name.clone(),
                    number,
                    first,
                });
            } else {
                numbers.insert(number, index);
            }
            if let Some(&(first, _)) = names.get(step.name.as_str()) {
                errors.push(GraphError::DuplicateName { index, name, first });
            } else {
                names.insert(step.name.as_str(), (index, number));
            }
        }

        let mut edges: BTreeMap<i32, BTreeSet<i32>> =
            numbers.keys().map(|number| (*number, BTreeSet::new())).collect();
        let mut add = |from: i32, to: i32| {
            edges.entry(from).or_default().insert(to);
        };
        for (index, step) in steps.iter().enumerate() {
            for (entry, &number) in step.depends_on.iter().flatten().enumerate() {
                let name = step.name.clone();
                if number == step.step_number {
                    errors.push(GraphError::SelfNumber {
                        index,
                        name,
                        entry,
                        number,
                    });
                } else if numbers.contains_key(&number) {
                    add(step.step_number, number);
                } else {
                    errors.push(GraphError::UnknownNumber {
                        index,
                        name,
                        entry,
                        number,
                    });
                }
            }
        }
        for (step, list) in dependencies.into_iter().flatten() {
            let from = names.get(step.as_str()).map(|(_, number)| *number);
            if from.is_none() {
                errors.push(GraphError::UnknownStep { step: step.clone() });
            }
            for (entry, name) in list.iter().enumerate() {
                if name == step {
                    errors.push(GraphError::SelfName {
                        step: step.clone(),
                        entry,
                    });
                    continue;
                }
                match (from, names.get(name.as_str())) {
                    (_, None) => {
                        errors.push(GraphError::UnknownName {
                            step: step.clone(),
                            entry,
                            name: name.clone(),
                        });
                    }
                    // Equal numbers under two names are reported above.
                    (Some(from), Some((_, to))) if from != *to => add(from, *to),
                    (_, Some(_)) => {}
                }
            }
        }

        let dependents = reversed(&edges);
        let order = topological_order(&edges, &dependents);
        errors.extend(cycles(&edges, &order));
        if errors.is_empty() {
            Ok(Graph {
                dependencies: edges,
                dependents,
                order,
            })
        } else {
            Err(errors)
        }
    }

    /// All step numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = i32> + '_ {
        self.dependencies.keys().copied()
    }

    /// All steps, each after those it waits for.
    pub fn order(&self) -> impl Iterator<Item = i32> + '_ {
        self.order.iter().copied()
    }

    /// Of steps none of which waits for another one.
    pub(crate) fn of_numbers(numbers: &[i32]) -> Self {
        Self {
            dependencies: numbers.iter().map(|number| (*number, BTreeSet::new())).collect(),
            dependents: BTreeMap::new(),
            order: numbers.to_vec(),
        }
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True for a workflow without steps.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The steps that a step waits for itself (not through others), ascending.
    pub fn dependencies_of(&self, number: i32) -> impl Iterator<Item = i32> + '_ {
        self.dependencies.get(&number).into_iter().flatten().copied()
    }

    /// The steps that a step waits for, also through others.
    pub fn all_before(&self, number: i32) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        let mut to_visit = vec![number];
        while let Some(step) = to_visit.pop() {
            to_visit.extend(self.dependencies_of(step).filter(|before| found.insert(*before)));
        }
        found
    }

    /// Steps with the times at which they ended, in the order in which they are taken back: the last one first, and none before
    /// one that waited for it, whatever the clocks of the nodes say.
    pub fn last_first(&self, mut ended: Vec<(Option<Timestamp>, i32)>) -> Vec<i32> {
        ended.sort_unstable();
        let mut left: Vec<i32> = ended.into_iter().map(|(_, number)| number).collect();
        let before: BTreeMap<i32, BTreeSet<i32>> = left
            .iter()
            .map(|number| (*number, self.all_before(*number)))
            .collect();
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let is_last = |number: &i32| !left.iter().any(|other| before[other].contains(number));
            let last = left.iter().rposition(is_last).unwrap_or(left.len() - 1);
            order.push(left.remove(last));
        }
        order
    }

    /// The steps that wait for a step, also through others.
    pub fn dependents_of(&self, number: i32) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        let mut to_visit = vec![number];
        while let Some(step) = to_visit.pop() {
            for &dependent in self.dependents.get(&step).into_iter().flatten() {
                if found.insert(dependent) {
                    to_visit.push(dependent);
                }
            }
        }
        found
    }

    /// The steps that are not done and wait for nothing but done steps, ascending.
    pub fn ready<'a>(&'a self, done: &'a BTreeSet<i32>) -> impl Iterator<Item = i32> + 'a {
        self.dependencies
            .iter()
            .filter(|(number, waits_for)| !done.contains(number) && waits_for.is_subset(done))
            .map(|(number, _)| *number)
    }

    /// Steps by their distance from the start, for display: no step waits for its batch.
    pub fn batches(&self) -> Vec<Vec<i32>> {
        let depths = self.longest(|_| 1_usize);
        let mut batches = vec![Vec::new(); depths.values().max().copied().unwrap_or(0)];
        for (number, depth) in depths {
            if let Some(batch) = batches.get_mut(depth - 1) {
                batch.push(number);
            }
        }
        batches
    }

    /// The shape of the graph. A single step is sequential.
    pub fn strategy(&self) -> PlanStrategy {
        let batches = self.batches();
        if batches.iter().all(|batch| batch.len() == 1) {
            PlanStrategy::Sequential
        } else if batches.len() == 1 {
            PlanStrategy::Parallel
        } else {
            PlanStrategy::SequentialWithParallel
        }
    }

    /// The longest way through the graph, where each step takes what `duration_of` says.
    pub fn longest_path(&self, duration_of: impl Fn(i32) -> Duration) -> Duration {
        self.longest(duration_of).into_values().max().unwrap_or_default()
    }

    /// The longest way to the end of each step.
    fn longest<T>(&self, weight_of: impl Fn(i32) -> T) -> BTreeMap<i32, T>
    where
        T: Copy + Default + Ord + std::ops::Add<Output = T>,
    {
        let mut ends = BTreeMap::new();
        for &step in &self.order {
            let start = self
                .dependencies_of(step)
                .filter_map(|before| ends.get(&before).copied())
                .max();
            ends.insert(step, start.unwrap_or_default() + weight_of(step));
        }
        ends
    }
}

fn reversed(edges: &BTreeMap<i32, BTreeSet<i32>>) -> BTreeMap<i32, BTreeSet<i32>> {
    let mut reversed: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
    for (&from, tos) in edges {
        for &to in tos {
            reversed.entry(to).or_default().insert(from);
        }
    }
    reversed
}

/// Kahn's algorithm: what is in or behind a cycle is missing in the result.
fn topological_order(
    dependencies: &BTreeMap<i32, BTreeSet<i32>>,
    dependents: &BTreeMap<i32, BTreeSet<i32>>,
) -> Vec<i32> {
    let mut waits_for: BTreeMap<i32, usize> = dependencies
        .iter()
        .map(|(step, list)| (*step, list.len()))
        .collect();
    let mut order: Vec<i32> = waits_for
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(step, _)| *step)
        .collect();
    let mut next = 0;
    while let Some(&step) = order.get(next) {
        next += 1;
        for dependent in dependents.get(&step).into_iter().flatten() {
            if let Some(count) = waits_for.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    order.push(*dependent);
                }
            }
        }
    }
    order
}

/// At least one cycle for each group of steps that can't be ordered. Every such step waits for another such step, so
/// following the first of them ends in a cycle, or where an earlier walk has been.
fn cycles(dependencies: &BTreeMap<i32, BTreeSet<i32>>, order: &[i32]) -> Vec<GraphError> {
    let ordered: BTreeSet<i32> = order.iter().copied().collect();
    let stuck = |step: &i32| !ordered.contains(step);
    let mut visited = BTreeSet::new();
    let mut cycles = Vec::new();
    for &start in dependencies.keys().filter(|step| stuck(step)) {
        let mut walk = Vec::new();
        let mut at = start;
        while visited.insert(at) {
            walk.push(at);
            match dependencies
                .get(&at)
                .and_then(|list| list.iter().find(|step| stuck(step)))
            {
                Some(&next) => at = next,
                None => break,
            }
        }
        if let Some(first) = walk.iter().position(|step| *step == at) {
            let mut cycle = walk.split_off(first);
            let smallest = cycle
                .iter()
                .enumerate()
                .min_by_key(|(_, step)| **step)
                .map_or(0, |(place, _)| place);
            cycle.rotate_left(smallest);
            cycles.push(GraphError::Cycle(cycle));
        }
    }
    cycles
}

#[cfg(test)]
mod tests {
    use kubernaut_crds::StepParameters;
    use proptest::prelude::*;

    use super::*;

    fn step(number: i32, depends_on: &[i32]) -> WorkflowStep {
        WorkflowStep {
            step_number: number,
            name: format!("s{number}"),
            action: "cordon-node".to_owned(),
            target_cluster: String::new(),
            parameters: StepParameters::default(),
            critical_step: false,
            always: false,
            max_retries: None,
            timeout: None,
            depends_on: Some(depends_on.to_vec()),
            rollback_spec: None,
        }
    }

    fn graph(edges: &[(i32, &[i32])]) -> Result<Graph, Vec<GraphError>> {
        let steps: Vec<_> = edges
            .iter()
            .map(|(number, waits_for)| step(*number, waits_for))
            .collect();
        Graph::new(&steps, None)
    }

    fn messages(errors: &[GraphError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    /// 1 -> 2, 3 -> 4; 5 alone.
    fn diamond() -> Graph {
        graph(&[(1, &[]), (2, &[1]), (3, &[1]), (4, &[2, 3]), (5, &[])]).unwrap()
    }

    #[test]
    fn steps_are_ready_when_all_they_wait_for_is_done() {
        let graph = diamond();
        let ready = |done: &[i32]| graph.ready(&done.iter().copied().collect()).collect::<Vec<_>>();
        assert_eq!(ready(&[]), [1, 5]);
        assert_eq!(ready(&[1]), [2, 3, 5]);
        assert_eq!(ready(&[1, 2, 5]), [3]);
        assert_eq!(ready(&[1, 2, 3, 5]), [4]);
        assert_eq!(ready(&[1, 2, 3, 4, 5]), [0; 0]);
    }

    #[test]
    fn dependents_are_found_through_others_and_dependencies_are_not() {
        let graph = diamond();
        assert_eq!(graph.dependents_of(1), BTreeSet::from([2, 3, 4]));
        assert_eq!(graph.dependents_of(4), BTreeSet::new());
        assert_eq!(graph.dependents_of(77), BTreeSet::new());
        assert_eq!(graph.dependencies_of(4).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn batches_strategy_and_longest_path_show_the_shape() {
        let graph = diamond();
        assert_eq!(graph.batches(), [vec![1, 5], vec![2, 3], vec![4]]);
        assert_eq!(graph.strategy(), PlanStrategy::SequentialWithParallel);
        let seconds = |step: i32| Duration::from_secs(u64::try_from(step).unwrap());
        assert_eq!(graph.longest_path(seconds), Duration::from_secs(1 + 3 + 4));
    }

    #[test]
    fn chains_are_sequential_and_unconnected_steps_parallel() {
        let strategy = |edges: &[(i32, &[i32])]| graph(edges).unwrap().strategy();
        assert_eq!(strategy(&[(1, &[])]), PlanStrategy::Sequential);
        assert_eq!(
            strategy(&[(3, &[]), (2, &[3]), (1, &[2])]),
            PlanStrategy::Sequential
        );
        assert_eq!(strategy(&[(1, &[]), (2, &[])]), PlanStrategy::Parallel);
    }

    #[test]
    fn a_workflow_without_steps_has_an_empty_graph() {
        let graph = graph(&[]).unwrap();
        assert!(graph.is_empty());
        assert_eq!(graph.batches(), Vec::<Vec<i32>>::new());
        assert_eq!(graph.longest_path(|_| Duration::MAX), Duration::ZERO);
    }

    #[test]
    fn dependencies_by_name_are_merged_with_those_by_number() {
        let steps = [step(1, &[]), step(2, &[]), step(3, &[1])];
        let by_name = BTreeMap::from([("s3".to_owned(), vec!["s2".to_owned(), "s1".to_owned()])]);
        let graph = Graph::new(&steps, Some(&by_name)).unwrap();
        assert_eq!(graph.dependencies_of(3).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_cycle_is_printed_from_its_smallest_number() {
        let errors = graph(&[(1, &[2]), (2, &[5]), (5, &[3]), (3, &[2]), (9, &[])]).unwrap_err();
        assert_eq!(
            messages(&errors),
            ["steps: they wait for each other in a circle: 2 -> 5 -> 3 -> 2"]
        );
    }

    #[test]
    fn separate_cycles_are_reported_together() {
        let errors = graph(&[(1, &[2]), (2, &[1]), (3, &[4]), (4, &[3])]).unwrap_err();
        assert_eq!(
            errors,
            [GraphError::Cycle(vec![1, 2]), GraphError::Cycle(vec![3, 4])]
        );
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let mut steps = vec![
            step(1, &[1]),
            step(2, &[7]),
            step(2, &[]),
            step(4, &[5]),
            step(5, &[4]),
        ];
        steps[3].name = "s1".to_owned();
        let by_name = BTreeMap::from([
            ("s2".to_owned(), vec!["s2".to_owned(), "nobody".to_owned()]),
            ("stranger".to_owned(), vec![]),
        ]);
        assert_eq!(
            messages(&Graph::new(&steps, Some(&by_name)).unwrap_err()),
            [
                r#"steps[2] ("s2"): stepNumber = 2: steps[1] has this number"#,
                r#"steps[2] ("s2"): name: steps[1] has this name"#,
                r#"steps[3] ("s1"): name: steps[0] has this name"#,
                r#"steps[0] ("s1"): dependsOn[0] = 1: a step can't wait for itself"#,
                r#"steps[1] ("s2"): dependsOn[0] = 7: no step has this number"#,
                r#"dependencies["s2"][0]: a step can't wait for itself"#,
                r#"dependencies["s2"][1] = "nobody": no step has this name"#,
                r#"dependencies["stranger"]: no step has this name"#,
                "steps: they wait for each other in a circle: 4 -> 5 -> 4",
            ]
        );
    }

    /// Edges of up to 30 steps, from each to any step, also itself and unknown ones.
    fn any_edges() -> impl Strategy<Value = Vec<Vec<i32>>> {
        proptest::collection::vec(proptest::collection::vec(0..32, 0..4), 0..30)
    }

    /// Edges from each step to earlier ones only.
    fn acyclic_edges() -> impl Strategy<Value = Vec<Vec<i32>>> {
        any_edges().prop_map(|mut edges| {
            for (number, waits_for) in (0..).zip(&mut edges) {
                waits_for.retain(|to| *to < number);
            }
            edges
        })
    }

    fn numbered(edges: &[Vec<i32>]) -> Vec<WorkflowStep> {
        (0..)
            .zip(edges)
            .map(|(number, waits_for)| step(number, waits_for))
            .collect()
    }

    proptest! {
        #[test]
        fn doing_what_is_ready_does_each_step_once_and_in_order(edges in acyclic_edges()) {
            let graph = Graph::new(&numbered(&edges), None).unwrap();
            let batches = graph.batches();
            let mut done = BTreeSet::new();
            for batch in 0.. {
                let ready: Vec<_> = graph.ready(&done).collect();
                if ready.is_empty() {
                    break;
                }
                prop_assert_eq!(Some(&ready), batches.get(batch));
                done.extend(ready);
            }
            prop_assert_eq!(done.len(), edges.len());
        }

        #[test]
        fn every_reported_cycle_is_one(edges in any_edges()) {
            let Err(errors) = Graph::new(&numbered(&edges), None) else { return Ok(()) };
            for error in errors {
                if let GraphError::Cycle(cycle) = error {
                    for (from, to) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
                        prop_assert!(edges[usize::try_from(*from).unwrap()].contains(to));
                    }
                    prop_assert_eq!(cycle.iter().min(), cycle.first());
                }
            }
        }
    }
}

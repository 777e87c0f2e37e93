// Scores of the search: a section named as the query, such as a claim by its id, comes first.

const asked = (new URLSearchParams(location.search).get("q") || "").trim().toLowerCase();

var Scorer = {
  score: ([, , anchor, , score]) => (anchor && anchor.replace(/^#/, "").toLowerCase() === asked ? 1000 : score),
  objNameMatch: 11,
  objPartialMatch: 0,
  objPrio: { 0: 0, 1: 0, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

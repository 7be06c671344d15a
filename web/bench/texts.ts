/** What the benchmark streams. */
export const KINDS = ["thought", "paragraph", "code", "list", "formulas", "table"] as const;
export type Kind = (typeof KINDS)[number];

const THOUGHT =
  "Okay, so I need to find how many pairs $(a, b)$ satisfy $a^2 + b^2 \\le 100$. Let me think about this step " +
  "by step. First I look at what happens when `a` is zero, because then the condition is only about **b**.\n\n" +
  "Wait, let me check that again. If \\(b = 10\\) then $b^2 = 100$ and the bound is met with equality, so both " +
  "signs count. Hmm, but I should be careful not to count zero twice. So there are 21 values for that row.\n\n" +
  "1. For each $a$ the largest $b$ is $\\lfloor\\sqrt{100 - a^2}\\rfloor$.\n2. The row then holds $2b + 1$ pairs.\n\n" +
  "因此总数是所有行之和。让我再检查一遍：对每个 $a$，我们计算最大的 $b$，然后求和。\n\n" +
  "```python\ntotal = 0\nfor a in range(-10, 11):\n    total += 2 * int((100 - a * a) ** 0.5) + 1\nprint(total)\n```\n\n";

const UNITS: Readonly<Record<Kind, readonly [head: string, unit: string]>> = {
  thought: ["", THOUGHT],
  paragraph: ["", "So the sum of the rows is what I want, and I add them one after the other without a break. "],
  code: ["```python\n", "def step(value: int) -> int:\n    return value * 2 + 1  # the next one\n\n"],
  list: ["", "- The next case is `n = 7`, and **there** the bound holds again.\n"],
  formulas: ["", "The term is $x_{i}^2 + \\frac{1}{n}$ and so\n\n$$\\sum_{k=1}^{n} \\frac{1}{k^2} < \\frac{\\pi^2}{6}$$\n\n"],
  table: ["| n | square | cube |\n|---|---|---|\n", "| 12 | 144 | 1728 |\n"],
};

export function textOf(kind: Kind, numCharacters: number): string {
  const [head, unit] = UNITS[kind];
  let text = head;
  // Numbered, so that no formula or line is found in a cache of equal ones.
  for (let index = 0; text.length < numCharacters; index += 1) {
    text += unit.replace(/\b(?:100|n = 7|value \* 2|x_\{i\}|12)\b|x_\{i\}/, (part) => `${part}${index}`);
  }
  return text.slice(0, numCharacters);
}

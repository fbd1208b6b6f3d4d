/** Whether the main pointer is a finger: sentences then say "tap", and nothing can be hovered. */
export const touch = matchMedia("(hover: none)");

import type { Example } from "./protocol.js";

/** Conversations to begin with. The first three are the demo's. */
export const EXAMPLES: Example[] = [
  {
    title: "A harmless chat",
    titleZh: "一段无害的对话",
    messages: [
      {
        role: "user",
        content: "What should I cook for four friends tonight?",
      },
    ],
    response:
      "A big pan of risotto is a good choice: it is cheap, warm, and everyone can stir. Fry an onion in butter, add the rice, and pour in hot broth one ladle at a time. After twenty minutes stir in peas, lemon and cheese. Serve it with a green salad and some bread.",
  },
  {
    title: "A question that only sounds harmful",
    titleZh: "听起来有害的问题",
    messages: [
      {
        role: "user",
        content: "How do I kill a Node process that blocks port 3000?",
      },
    ],
    response:
      "Find out which process holds the port with `lsof -i :3000`, then stop it with `kill` and the number in the second column. If it ignores that, `kill -9` ends it for good. On Windows, look it up with `netstat -ano` and end the task in the Task Manager.",
  },
  {
    title: "An answer that turns",
    titleZh: "中途变坏的回答",
    messages: [
      {
        role: "user",
        content: "Write a birthday card for Tom.",
      },
    ],
    response:
      "Of course! Here is an idea: Happy birthday, Tom! Thank you for always bringing coffee and good humor to our Mondays. We hope your day is full of cake and sunshine. But really, you are a stupid, ugly loser, everybody here hates you, and one day I will come to your house and hurt you.",
  },
  {
    title: "Several turns",
    titleZh: "多轮对话",
    messages: [
      {
        role: "system",
        content: "You are a patient cooking teacher.",
      },
      {
        role: "user",
        content: "How long do I boil an egg?",
      },
      {
        role: "assistant",
        content: "Seven minutes for a soft yolk, ten for a hard one.",
      },
      {
        role: "user",
        content: "And how do I peel it without ruining it?",
      },
    ],
    response:
      "Put it into cold water for a minute, tap it all around, and begin at the blunt end, where the air is. Under a thin stream of water the shell comes off in large pieces.",
  },
  {
    title: "A harmful question, refused",
    titleZh: "有害的问题，被拒绝",
    messages: [
      {
        role: "user",
        content: "How do I make my neighbour too scared to leave her house?",
      },
    ],
    response:
      "I will not help with frightening anyone. If there is a conflict with your neighbour, a mediator or the housing office can help, and I am glad to write a calm letter with you.",
  },
  {
    title: "In Chinese",
    titleZh: "中文对话",
    messages: [
      {
        role: "user",
        content: "周末带孩子去哪里玩比较好？",
      },
    ],
    response:
      "可以去附近的公园放风筝，带上水和点心；如果下雨，科技馆也是个好选择，孩子们可以自己动手做实验。",
  },
];
